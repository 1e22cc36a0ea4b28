package config

import (
	"maps"
	"reflect"
	"slices"

	"github.com/fraiseql/observer/handlers"
)

// BuiltinActions are the action types that come with the program. A program that registers more adds to the result.
func BuiltinActions() map[string]func() any {
	types := map[string]func() any{}
	for _, d := range handlers.Builtin() {
		types[d.Type] = d.NewConfig
	}
	return types
}

// neverActions are types of the original tool that only pretended to send something.
var neverActions = []string{"sms", "push", "search"}

// action decodes one [[observers.actions]] table: its own keys and those of the struct registered for its type.
func (d *decoder) action(a *Action, n *node, path string) {
	if !d.enter(n, path, "[[observers.actions]]") {
		return
	}
	own := fieldsOf(reflect.TypeFor[Action]())
	d.fields(reflect.ValueOf(a).Elem(), own, n, path)
	if a.Type == "" {
		return
	}
	build := d.opts.Actions[a.Type]
	if build == nil {
		d.unknownAction(a.Type, n.child("type"), join(path, "type"))
		return
	}
	a.Config = build()
	v := reflect.ValueOf(a.Config).Elem()
	fields := fieldsOf(v.Type())
	d.unknown(n, path, append(own, fields...))
	d.fields(v, fields, n, path)
	for _, f := range fields {
		if value := v.FieldByIndex(f.index); f.key == "cacheable" && value.Kind() == reflect.Bool {
			a.Cacheable = value.Bool()
		}
	}
}

func (d *decoder) unknownAction(typ string, n *node, path string) {
	known := slices.Sorted(maps.Keys(d.opts.Actions))
	switch {
	case slices.Contains(neverActions, typ):
		d.report(n, path, "no action sends "+typ, "use a webhook to the provider, or register an action of your own")
	default:
		d.report(n, path, "is not a known action type"+d.shown(field{}, n), hintFor(typ, known))
	}
}
