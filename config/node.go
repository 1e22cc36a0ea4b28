package config

import (
	"cmp"
	"maps"
	"slices"
)

// kind is the kind of a value, in the words that messages use.
type kind string

const (
	kindTable  kind = "a table"
	kindArray  kind = "an array"
	kindText   kind = "text"
	kindInt    kind = "an integer"
	kindFloat  kind = "a number"
	kindBool   kind = "a boolean"
	kindTime   kind = "a date or time"
	kindLength kind = "a duration"
)

// node is one value with the place it came from: a table, an array or a scalar.
type node struct {
	pos    Position // of the value
	keyPos Position // of its key; the zero value in arrays
	raw    any      // scalars: string, int64, float64, bool, or one of go-toml's times
	table  map[string]*node
	items  []*node
	kind   kind
	loose  bool // text that may stand for any kind: from the environment, a ${…} or a default
	secret bool // holds what a ${…} was replaced with
	bad    bool // has a problem already: nothing more is said about it
}

// child returns the value of key, nil when n is nil or has none.
func (n *node) child(key string) *node {
	if n == nil {
		return nil
	}
	return n.table[key]
}

// keys lists the keys of a table in a fixed order.
func (n *node) keys() []string { return slices.Sorted(maps.Keys(n.table)) }

// newNode builds the tree of a decoded document. A value without a place of its own has its parent's.
func newNode(raw any, path string, places map[string]place, parent Position) *node {
	p := places[path]
	n := &node{pos: cmp.Or(p.value, parent)}
	n.keyPos = cmp.Or(p.key, n.pos)
	switch v := raw.(type) {
	case map[string]any:
		n.kind, n.table = kindTable, make(map[string]*node, len(v))
		for key, item := range v {
			n.table[key] = newNode(item, join(path, key), places, n.pos)
		}
	case []any:
		n.kind = kindArray
		for i, item := range v {
			n.items = append(n.items, newNode(item, at(path, i), places, n.pos))
		}
	case string:
		n.kind, n.raw = kindText, v
	case int64:
		n.kind, n.raw = kindInt, v
	case float64:
		n.kind, n.raw = kindFloat, v
	case bool:
		n.kind, n.raw = kindBool, v
	default:
		n.kind, n.raw = kindTime, v
	}
	return n
}
