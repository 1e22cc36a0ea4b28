package handlers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Definition is a type of action: its name in the file, its table of keys and how it is built.
type Definition struct {
	Type string

	config func() any
	build  func(cfg any, env Env) (Action, error)
}

// Define makes a [Definition]. C is the struct of the action's keys, with the tags that package config describes. build
// is called once for each action of the file, also by --validate: it uses no network, and its error is one or more
// [KeyError], joined, where a key is at fault.
func Define[C any](typ string, build func(cfg *C, env Env) (Action, error)) Definition {
	return Definition{
		Type:   typ,
		config: func() any { return new(C) },
		build: func(cfg any, env Env) (Action, error) {
			c, ok := cfg.(*C)
			if !ok {
				return nil, fmt.Errorf("build %s action: its config is a %T, not a %T", typ, cfg, c)
			}
			return build(c, env)
		},
	}
}

// NewConfig returns a pointer to an empty struct of the action's keys.
func (d Definition) NewConfig() any { return d.config() }

// Builtin lists the types of action that come with the program.
func Builtin() []Definition {
	return []Definition{Define("webhook", NewWebhook), Define("slack", NewSlack), Define("log", NewLog)}
}

// Registry holds the known types of action.
type Registry struct{ byType map[string]Definition }

// NewRegistry returns a registry of the built-in types and those that a team adds.
func NewRegistry(extra ...Definition) (*Registry, error) {
	r := &Registry{byType: map[string]Definition{}}
	for _, d := range append(Builtin(), extra...) {
		if d.build == nil || d.Type == "" {
			return nil, errors.New("register action: it has no type or no constructor (make it with handlers.Define)")
		}
		if _, ok := r.byType[d.Type]; ok {
			return nil, fmt.Errorf("register action: the type %q exists already (choose another name)", d.Type)
		}
		r.byType[d.Type] = d
	}
	return r, nil
}

// Configs returns, for each type, what makes an empty config struct: the form that config.Options.Actions takes.
func (r *Registry) Configs() map[string]func() any {
	m := make(map[string]func() any, len(r.byType))
	for typ, d := range r.byType {
		m[typ] = d.NewConfig
	}
	return m
}

// New builds an action from its config, which is what [Registry.Configs] made, filled in.
func (r *Registry) New(typ string, cfg any, env Env) (Action, error) {
	d, ok := r.byType[typ]
	if !ok {
		known := slices.Sorted(maps.Keys(r.byType))
		return nil, fmt.Errorf("build action: no type %q (known are %s)", typ, strings.Join(known, ", "))
	}
	return d.build(cfg, env)
}

// KeyError says what is wrong with one key of an action's table.
type KeyError struct {
	Key  string // such as "body_template" or "headers.X-Token"
	Err  error
	Hint string // what to write instead, "" when Err says it
}

func (e *KeyError) Error() string {
	if e.Hint == "" {
		return e.Key + ": " + e.Err.Error()
	}
	return e.Key + ": " + e.Err.Error() + " (" + e.Hint + ")"
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
