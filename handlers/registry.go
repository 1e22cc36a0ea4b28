package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

// Definition is a type of action: its name in the file, its table of keys and how it is built. [Define] makes it.
type Definition struct {
	Type string

	config func() any
	build  func(cfg any, env Env) (Action, error)
}

// Define makes a [Definition]. typ is what the file writes as type: lower-case letters, digits, "_" and "-".
//
// C is the struct of the action's keys. Their tags (toml, default, required, min, enum, doc, …) are described in package
// config. A key may be a bool, a number, a string, a time.Duration, a list of these, a map of them by string, or a struct of
// more keys. Every action has the keys type, name and middleware besides.
//
// build makes one action. It is called once for each action of the file, also by --validate, so it uses no network: that
// is for Run, and for [Checker], which --dry-run calls. Where a key is at fault its error is a [*KeyError], or several of
// them, joined: the program adds file, line and column. A key that has a problem already holds its zero value; build is
// called all the same, so that every problem is shown at once.
func Define[C any](typ string, build func(cfg *C, env Env) (Action, error)) Definition {
	d := Definition{Type: typ, config: func() any { return new(C) }}
	if build == nil {
		return d
	}
	d.build = func(cfg any, env Env) (Action, error) {
		c, ok := cfg.(*C)
		if !ok {
			return nil, fmt.Errorf("build %s action: its config is a %T, not a %T", typ, cfg, c)
		}
		return build(c, env)
	}
	return d
}

// NewConfig returns a pointer to an empty struct of the action's keys.
func (d Definition) NewConfig() any { return d.config() }

// Builtin lists the types of action that come with the program.
func Builtin() []Definition {
	return []Definition{
		Define("webhook", NewWebhook), Define("slack", NewSlack), Define("email", NewEmail),
		Define("sql", NewSQL), Define("database", NewSQL), // two names of one
		Define("publish", NewPublish), Define("cache", NewCache), Define("log", NewLog),
	}
}

// Registry holds the known types of action.
type Registry struct{ byType map[string]Definition }

// typeName is what names are elsewhere in the file.
var typeName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// NewRegistry returns a registry of the built-in types and those that a team adds.
func NewRegistry(extra ...Definition) (*Registry, error) {
	r := &Registry{byType: map[string]Definition{}}
	for _, d := range append(Builtin(), extra...) {
		if d.build == nil || d.Type == "" {
			return nil, errors.New("register action: it has no type or no constructor (make it with handlers.Define)")
		}
		if !typeName.MatchString(d.Type) {
			return nil, fmt.Errorf(`register action: the type %q is no name (write lower-case letters, digits, "_" and "-")`, d.Type)
		}
		if _, ok := r.byType[d.Type]; ok {
			return nil, fmt.Errorf("register action: the type %q exists already (choose another name)", d.Type)
		}
		if err := checkKeys(reflect.TypeOf(d.config()).Elem()); err != nil {
			return nil, fmt.Errorf("register action %s: %w", d.Type, err)
		}
		r.byType[d.Type] = d
	}
	return r, nil
}

// checkKeys refuses a struct of keys that package config cannot fill.
func checkKeys(t reflect.Type) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("its config is a %s (write a struct with one field for each key)", t)
	}
	for f := range t.Fields() {
		key := f.Tag.Get("toml")
		switch {
		case f.Anonymous && key == "" && f.Type.Kind() == reflect.Struct:
			if err := checkKeys(f.Type); err != nil {
				return err
			}
		case key == "" || key == "-":
		case !f.IsExported():
			return fmt.Errorf("no value reaches the field %s of the key %q (begin its name with a capital)", f.Name, key)
		case !fillable(f.Type):
			return fmt.Errorf("no value of a file becomes a %s, as the key %q needs it (see handlers.Define)", f.Type, key)
		}
	}
	return nil
}

func fillable(t reflect.Type) bool {
	switch k := t.Kind(); k {
	case reflect.Struct:
		return checkKeys(t) == nil
	case reflect.Slice:
		return fillable(t.Elem())
	case reflect.Map:
		return t.Key().Kind() == reflect.String && t.Elem().Kind() != reflect.Struct && fillable(t.Elem())
	default:
		return k == reflect.String || reflect.Bool <= k && k <= reflect.Float64 && k != reflect.Uintptr
	}
}

// Configs returns, for each type, what makes an empty config struct: the form that config.Options.Actions takes.
func (r *Registry) Configs() map[string]func() any {
	m := make(map[string]func() any, len(r.byType))
	for typ, d := range r.byType {
		m[typ] = d.NewConfig
	}
	return m
}

// New builds an action from its config, which is what [Registry.Configs] made, filled in. A constructor that panics is an
// error, so that the other problems of the file are shown beside it; the stack is logged.
func (r *Registry) New(typ string, cfg any, env Env) (action Action, err error) {
	d, ok := r.byType[typ]
	if !ok {
		known := slices.Sorted(maps.Keys(r.byType))
		return nil, fmt.Errorf("build action: no type %q (known are %s)", typ, strings.Join(known, ", "))
	}
	defer func() {
		if p := recover(); p != nil {
			if env.Logger != nil {
				env.Logger.Error("panic in the constructor of an action", slog.Any("error", p), slog.String("stack", string(debug.Stack())))
			}
			err = fmt.Errorf("build %s action: panic: %v", typ, p)
		}
	}()
	action, err = d.build(cfg, env)
	if action == nil && err == nil {
		err = fmt.Errorf("build %s action: its constructor returned no action and no error", typ)
	}
	return action, err
}

// KeyError says what is wrong with one key of an action's table. A constructor returns it, and the program prints
//
//	observer.toml:22:18: observers[0].actions[0].customer_field: has an empty part (write a path such as "customer.name")
//
// for
//
//	&handlers.KeyError{Key: "customer_field", Err: errors.New("has an empty part"), Hint: `write a path such as "customer.name"`}
type KeyError struct {
	Table string // "" for the action's own, else another one that it needs, such as "smtp"
	Key   string // within the table, such as "body_template" or "headers.X-Token"
	Err   error  // what is wrong; it reads on after the key, and shows no secret
	Hint  string // what to write instead, "" when Err says it
}

func (e *KeyError) Error() string {
	text := e.Key + ": " + e.Err.Error()
	if e.Table != "" {
		text = e.Table + "." + text
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *KeyError) Unwrap() error { return e.Err }

// KeyErrors lists every [KeyError] in err, which may be a tree of joined errors.
func KeyErrors(err error) []*KeyError {
	if k, ok := err.(*KeyError); ok { //nolint:errorlint // the whole tree is walked here
		return []*KeyError{k}
	}
	var list []*KeyError
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, KeyErrors(inner)...)
		}
	case interface{ Unwrap() error }:
		list = KeyErrors(e.Unwrap())
	}
	return list
}
