package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// unknown reports every key of n that fields do not declare.
func (d *decoder) unknown(n *node, path string, fields []field) {
	if n == nil || n.kind != kindTable {
		return
	}
	known := keysOf(fields)
	for _, key := range n.keys() {
		if !slices.Contains(known, key) {
			c := n.table[key]
			if near := suggest.Nearest(key, known); near != "" {
				d.misspelt[join(path, near)] = true
			}
			d.add(c.keyPos, join(path, key), "unknown key", elsewhere(key, path, known))
		}
	}
}

// elsewhere says where an unknown key was meant to stand, or what it was meant to be.
func elsewhere(key, path string, siblings []string) string {
	if near := suggest.Nearest(key, siblings); near != "" {
		return `did you mean "` + near + `"?`
	}
	var homes []string
	scalars(reflect.TypeFor[Config](), "", func(p string, f field) {
		if f.key == key {
			homes = append(homes, "["+strings.TrimSuffix(p, "."+key)+"]")
		}
	})
	for _, f := range fieldsOf(reflect.TypeFor[Observer]()) {
		if f.key == key {
			homes = append(homes, "[[observers]]")
		}
	}
	if len(homes) > 0 && !strings.HasPrefix(path, "observers[") {
		return "did you mean " + key + " in " + strings.Join(homes, " or ") + "?"
	}
	return hintFor(key, siblings)
}

// withoutIndexes turns "observers[2].actions[0].url" into "observers.actions.url".
func withoutIndexes(path string) string {
	var b strings.Builder
	skip := false
	for _, r := range path {
		skip = skip || r == '['
		if !skip {
			b.WriteRune(r)
		}
		skip = skip && r != ']'
	}
	return b.String()
}
