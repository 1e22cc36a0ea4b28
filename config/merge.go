package config

import (
	"fmt"
	"os"
	"reflect"

	"github.com/spf13/viper"
)

// merged is the file over the defaults and under the environment, for every key outside [[observers]].
type merged struct {
	viper *viper.Viper
	names map[string][]string // variables of each key, as viper tries them
	empty map[string]bool     // keys to which an empty variable says something
}

// merge lets viper decide which of environment, file and default counts. The file's values go in as nodes, so that
// each keeps its place; viper never sees a key that it could fold or drop, since the strict pass rejects those.
func merge(doc *node) (*merged, error) {
	m := &merged{viper: viper.New(), names: map[string][]string{}, empty: map[string]bool{}}
	var err error
	scalars(reflect.TypeFor[Config](), "", func(path string, f field) {
		if value, ok := f.tag.Lookup("default"); ok {
			m.viper.SetDefault(path, value)
		}
		m.names[path], m.empty[path] = variables(path, f), f.tag.Get("envempty") == "true"
		if e := m.viper.BindEnv(append([]string{path}, m.names[path]...)...); e != nil {
			err = fmt.Errorf("bind %s to the environment: %w", path, e)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := m.viper.MergeConfigMap(staticPart(doc, reflect.TypeFor[Config]())); err != nil {
		return nil, fmt.Errorf("merge file: %w", err)
	}
	return m, nil
}

// staticPart is what the file sets outside arrays of tables, unknown keys and tables that are none left out.
func staticPart(n *node, t reflect.Type) map[string]any {
	part := map[string]any{}
	for _, f := range fieldsOf(t) {
		c := n.child(f.key)
		switch {
		case c == nil || f.isTables():
		case !f.isTable():
			part[f.key] = c
		case c.kind == kindTable:
			part[f.key] = staticPart(c, f.typ)
		}
	}
	return part
}

// value returns what counts for a key, nil when nothing sets it.
func (m *merged) value(path string) *node {
	if name := m.variable(path); name != "" && os.Getenv(name) == "" { // for viper, an empty variable is never set
		return &node{kind: kindText, raw: "", loose: true, pos: Position{Env: name}}
	}
	switch v := m.viper.Get(path).(type) {
	case *node:
		return v
	case string:
		return &node{kind: kindText, raw: v, loose: true, pos: Position{Env: m.variable(path)}}
	}
	return nil
}

// variable names the variable that sets a key, "" when none does. An empty one counts as not set, unless the key's
// envempty tag says otherwise.
func (m *merged) variable(path string) string {
	for _, name := range m.names[path] {
		if value, set := os.LookupEnv(name); value != "" || set && m.empty[path] {
			return name
		}
	}
	return ""
}

// bothNames warns about keys that two variables set to different values.
func (d *decoder) bothNames() {
	for path, names := range d.merged.names {
		counts := d.merged.variable(path)
		for _, name := range names {
			if value := os.Getenv(name); value != "" && value != os.Getenv(counts) {
				d.warn(Position{Env: name}, path, "has another value than "+counts+", which counts", "unset one of them")
			}
		}
	}
}
