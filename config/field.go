package config

import (
	"reflect"
	"strings"
)

// field is one key that a struct declares.
type field struct {
	key   string
	index []int // as reflect.Value.FieldByIndex takes it
	typ   reflect.Type
	tag   reflect.StructTag
}

// fieldsOf lists the keys of a struct in the order of their declaration. Fields of an embedded struct count as its own.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for sf := range t.Fields() {
		key := sf.Tag.Get("toml")
		switch {
		case sf.Anonymous && key == "" && sf.Type.Kind() == reflect.Struct:
			for _, f := range fieldsOf(sf.Type) {
				f.index = append([]int{sf.Index[0]}, f.index...)
				list = append(list, f)
			}
		case key == "" || key == "-" || !sf.IsExported():
		default:
			list = append(list, field{key: key, index: sf.Index, typ: sf.Type, tag: sf.Tag})
		}
	}
	return list
}

// enum lists the allowed words, nil when every text is allowed.
func (f field) enum() []string {
	return words(f.tag.Get("enum"))
}

// single reports whether one value may stand alone instead of a list.
func (f field) single() bool { return f.tag.Get("single") == "true" }

func (f field) required() bool { return f.tag.Get("required") == "true" }

// isTable reports whether the key holds a table with declared keys.
func (f field) isTable() bool { return f.typ.Kind() == reflect.Struct }

// isTables reports whether the key holds an array of tables with declared keys.
func (f field) isTables() bool {
	return f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.Struct
}

// kind says what a value of the key looks like.
func (f field) kind() kind {
	switch k := f.typ.Kind(); {
	case f.typ == durationType:
		return kindLength
	case k == reflect.Struct || k == reflect.Map:
		return kindTable
	case k == reflect.Slice:
		return kindArray
	case k == reflect.Bool:
		return kindBool
	case k == reflect.Float32 || k == reflect.Float64:
		return kindFloat
	case k == reflect.String:
		return kindText
	default:
		return kindInt
	}
}

// keysOf names the keys of fields.
func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// variables names the environment variables of a key, the one that counts first.
func variables(path string, f field) []string {
	long := "FRAISEQL_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
	return append([]string{long}, words(f.tag.Get("env"))...)
}

// words splits a comma-separated tag.
func words(s string) []string {
	if s == "" {
		return nil
	}
	list := strings.Split(s, ",")
	for i, w := range list {
		list[i] = strings.TrimSpace(w)
	}
	return list
}

// scalars calls visit for every key that is neither in an array of tables nor a table itself.
func scalars(t reflect.Type, path string, visit func(path string, f field)) {
	for _, f := range fieldsOf(t) {
		p := join(path, f.key)
		switch {
		case f.isTable():
			scalars(f.typ, p, visit)
		case !f.isTables():
			visit(p, f)
		}
	}
}
