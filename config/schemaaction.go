package config

import (
	"maps"
	"reflect"
	"slices"
)

// definitions describes an action: its type decides which other keys it has.
func (s schemaBuilder) definitions() object {
	const path = "observers.actions"
	own := fieldsOf(reflect.TypeFor[Action]())
	types := slices.Sorted(maps.Keys(s.actions))
	defs, rules := object{}, []any{}
	for _, typ := range types {
		fields := fieldsOf(reflect.TypeOf(s.actions[typ]()).Elem())
		defs["action_"+typ] = s.table(append(slices.Clone(own), fields...), path)
		rules = append(rules, object{
			"if":   object{"properties": object{"type": object{"const": typ}}, "required": []string{"type"}},
			"then": object{"$ref": "#/$defs/action_" + typ},
		})
	}
	defs["action"] = object{
		"type":       "object",
		"required":   []string{"type"},
		"properties": object{"type": object{"enum": types}},
		"allOf":      rules,
	}
	return defs
}

// formerPlaces adds the keys that existing files have here instead of in [performance].
func (s schemaBuilder) formerPlaces(properties object, path string) {
	if path != "" && path != "transport.bridge" {
		return
	}
	for _, f := range fieldsOf(reflect.TypeFor[Performance]()) {
		if slices.Contains(movedKeys, f.key) {
			moved := s.key(f, join("performance", f.key))
			delete(moved, "default")
			moved["deprecated"] = true
			properties[f.key] = moved
		}
	}
}
