package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// object is a JSON object of the schema.
type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of the configuration file, made from the structs that [Load] decodes
// into. Of opts it reads Actions.
func Schema(opts Options) ([]byte, error) {
	if opts.Actions == nil {
		opts.Actions = BuiltinActions()
	}
	s := schemaBuilder{actions: opts.Actions}
	root := s.table(fieldsOf(reflect.TypeFor[Config]()), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "observer configuration"
	root["$defs"] = s.definitions()
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return append(data, '\n'), nil
}

type schemaBuilder struct{ actions map[string]func() any }

// table describes a table that has these keys and no others.
func (s schemaBuilder) table(fields []field, path string) object {
	properties, required, groups := object{}, []string{}, []any{}
	seen := map[string]bool{}
	for _, f := range fields {

		properties[f.key] = s.key(f, join(path, f.key))
		if f.required() {
			required = append(required, f.key)
		}
		if g := f.tag.Get("oneof"); g != "" && !seen[g] {
			seen[g] = true
			groups = append(groups, exactlyOne(groupOf(fields, g)))
		}
	}
	s.formerPlaces(properties, path)
	table := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		table["required"] = required
	}
	if len(groups) > 0 {
		table["allOf"] = groups
	}
	return table
}

func exactlyOne(group []field) object {
	choices := make([]any, len(group))
	for i, f := range group {
		choices[i] = object{"required": []string{f.key}}
	}
	return object{"oneOf": choices}
}

func (s schemaBuilder) key(f field, path string) object {
	var o object
	switch {
	case f.isTables() && f.typ.Elem() == reflect.TypeFor[Action]():
		o = object{"type": "array", "items": object{"$ref": "#/$defs/action"}}
	case f.isTables():
		o = object{"type": "array", "items": s.table(fieldsOf(f.typ.Elem()), path)}
	case f.isTable():
		o = s.table(fieldsOf(f.typ), path)
	case f.typ.Kind() == reflect.Map:
		o = object{"type": "object", "additionalProperties": s.scalar(field{typ: f.typ.Elem(), tag: f.tag})}
	case f.typ.Kind() == reflect.Slice:
		item := s.scalar(field{typ: f.typ.Elem(), tag: f.tag})
		o = object{"type": "array", "items": item}
		if f.single() {
			o = object{"anyOf": []any{item, o}}
		}
	default:
		o = s.scalar(f)
	}
	if f.isTables() && f.required() {
		o["minItems"] = 1
	}
	if path == "observers.on_failure" { // existing files have an empty table here
		o = object{"anyOf": []any{o, object{"type": "object", "maxProperties": 0, "deprecated": true}}}
	}
	if doc := f.tag.Get("doc"); doc != "" {
		o["description"] = doc
	}
	if text, ok := f.tag.Lookup("default"); ok {
		o["default"] = f.literal(text)
	}
	return o
}

// scalar describes one value. Where not every text is right, a text with a ${…} is too: its value is known later.
func (s schemaBuilder) scalar(f field) object {
	o := object{}
	switch f.kind() {
	case kindBool:
		o["type"] = "boolean"
	case kindInt:
		o["type"] = "integer"
		f.bounds(o)
	case kindFloat:
		o["type"] = "number"
		f.bounds(o)
	default:
		o["type"] = "string"
		if enum := f.enum(); len(enum) > 0 {
			o["enum"] = enum
		}
		if p := f.tag.Get("pattern"); p != "" {
			o["pattern"] = p
		}
		if f.kind() == kindLength {
			o["examples"] = []string{"30s"}
		}
		if len(o) == 1 {
			return o
		}
	}
	return object{"anyOf": []any{o, object{"type": "string", "pattern": `\$\{`}}}
}

func (f field) bounds(o object) {
	for word, tag := range map[string]string{"minimum": "min", "maximum": "max"} {
		if text := f.tag.Get(tag); text != "" {
			o[word] = json.Number(text)
		}
	}
}

// literal is the JSON value of a default.
func (f field) literal(text string) any {
	switch f.kind() {
	case kindBool:
		b, _ := strconv.ParseBool(text)
		return b
	case kindInt, kindFloat:
		return json.Number(text)
	case kindLength:
		d, _ := time.ParseDuration(text)
		return d.String()
	case kindArray:
		return words(text)
	default:
		return text
	}
}
