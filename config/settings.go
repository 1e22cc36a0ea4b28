package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer/internal/secret"
)

// settings remembers every key that was decoded, in order, and where its value came from.
type settings struct {
	list   []setting
	places map[string]Position // of tables, arrays, keys and their items
	nodes  map[string]*node
	hidden map[string]bool // keys whose value was made from a ${…}
}

type setting struct {
	key   string
	value reflect.Value // the field of the Config itself
	node  *node         // nil when nothing sets it
	field field
}

func newSettings() settings {
	return settings{places: map[string]Position{}, nodes: map[string]*node{}, hidden: map[string]bool{}}
}

func (s *settings) add(key string, n *node, f field, value reflect.Value) {
	s.list = append(s.list, setting{key: key, value: value, node: n, field: f})
	if n != nil {
		s.note(key, n)
	}
}

func (s *settings) note(key string, n *node) {
	s.nodes[key] = n
	if n.pos != (Position{}) {
		s.places[key] = n.pos
	}
}

// derive says that the value of key was made from the one of another.
func (s *settings) derive(key, from string) {
	if n := s.nodes[from]; n != nil && n.secret {
		s.hidden[key] = true
	}
}

// At says where the value of a key came from, such as "observers[2].actions[0].url". For a key that nothing sets it is
// the place of the table around it.
func (c *Config) At(key string) Position {
	for k := key; k != ""; k = outside(k) {
		if p, ok := c.values.places[k]; ok {
			return p
		}
	}
	return c.values.places[""]
}

// outside drops the last key or index of a path.
func outside(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// Problem describes a mistake in the value of key, with its place.
func (c *Config) Problem(key, message, hint string) Problem {
	return Problem{Position: c.At(key), Key: key, Message: message, Hint: hint}
}

// Explicit reports whether the file or the environment sets key.
func (c *Config) Explicit(key string) bool {
	n := c.values.nodes[key]
	return n != nil && n.pos != (Position{})
}

// Hidden reports whether the value of key holds what a ${…} was replaced with.
func (c *Config) Hidden(key string) bool {
	n := c.values.nodes[key]
	return c.values.hidden[key] || n != nil && n.secret
}

// Setting is one key of the merged configuration.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source string `json:"source"` // "default", "file:LINE" or "env:NAME"
}

// Merged lists every key with its value and its source. Secrets, the values of maps such as headers, and whatever a
// ${…} was replaced with are masked.
func (c *Config) Merged() []Setting {
	list := make([]Setting, len(c.values.list))
	for i, s := range c.values.list {
		list[i] = Setting{Key: s.key, Value: s.shown(c.values.hidden[s.key]), Source: s.source()}
	}
	return list
}

func (s setting) source() string {
	switch {
	case s.node == nil || s.node.pos == (Position{}):
		return "default"
	case s.node.pos.Env != "":
		return "env:" + s.node.pos.Env
	}
	return "file:" + strconv.Itoa(s.node.pos.Line)
}

func (s setting) shown(hidden bool) any {
	v := s.value
	switch {
	case v.Kind() == reflect.Map:
		return masked(v)
	case v.IsZero() && v.Kind() == reflect.Slice:
		return []string{}
	case hidden || s.node != nil && s.node.secret:
		return secret.Mask
	case s.field.typ == durationType:
		return time.Duration(v.Int()).String()
	}
	return v.Interface()
}

func masked(m reflect.Value) map[string]string {
	out := map[string]string{}
	for _, k := range m.MapKeys() {
		out[k.String()] = secret.Mask
	}
	return out
}
