package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
)

// errKind says that a value is of another kind than its key.
var errKind = errors.New("wrong kind")

// value decodes n into dst and reports what is wrong with it.
func (d *decoder) value(dst reflect.Value, f field, n *node, path string) {
	if n.bad {
		return
	}
	switch f.typ.Kind() {
	case reflect.Slice:
		d.list(dst, f, n, path)
	case reflect.Map:
		d.mapping(dst, f, n, path)
	default:
		d.scalar(dst, f, n, path)
	}
}

func (d *decoder) list(dst reflect.Value, f field, n *node, path string) {
	items := n.items
	switch {
	case n.loose && n.kind == kindText:
		items = n.split()
	case f.single() && n.kind == kindText:
		items = []*node{n}
	case n.kind != kindArray:
		d.wrongKind(f, n, path)
		return
	}
	dst.Set(reflect.MakeSlice(f.typ, len(items), len(items)))
	element := field{typ: f.typ.Elem(), tag: f.tag}
	for i, item := range items {
		d.value(dst.Index(i), element, item, at(path, i))
		d.cfg.values.note(at(path, i), item)
		n.secret = n.secret || item.secret
	}
}

// split turns a comma-separated text into one node an item.
func (n *node) split() []*node {
	text, _ := n.raw.(string)
	var items []*node
	for _, word := range words(text) {
		item := *n
		item.raw = word
		items = append(items, &item)
	}
	return items
}

func (d *decoder) mapping(dst reflect.Value, f field, n *node, path string) {
	if n.kind != kindTable {
		d.wrongKind(f, n, path)
		return
	}
	dst.Set(reflect.MakeMapWithSize(f.typ, len(n.table)))
	element := field{typ: f.typ.Elem(), tag: f.tag}
	for _, key := range n.keys() {
		item := reflect.New(f.typ.Elem()).Elem()
		d.value(item, element, n.table[key], join(path, key))
		d.cfg.values.note(join(path, key), n.table[key])
		dst.SetMapIndex(reflect.ValueOf(key).Convert(f.typ.Key()), item)
	}
}

func (d *decoder) scalar(dst reflect.Value, f field, n *node, path string) {
	text, _ := n.raw.(string)
	if alias, ok := f.alias(text); ok && n.pos.Env != "" {
		n.raw, text = alias, alias
	}
	var limit string
	err := errKind
	switch f.kind() {
	case kindText:
		if n.kind == kindText {
			dst.SetString(text)
			err = nil
		}
	case kindBool:
		err = setBool(dst, n)
	case kindInt:
		limit, err = setInt(dst, f, n)
	case kindFloat:
		limit, err = setFloat(dst, f, n)
	case kindLength:
		limit, err = setDuration(dst, f, n)
	}
	switch {
	case err != nil:
		d.wrongKind(f, n, path)
	case limit != "":
		d.report(n, path, "is "+limit+d.shown(f, n), f.allowed(n))
	default:
		d.words(f, n, path)
	}
	if n.bad {
		dst.SetZero()
	}
}

// words checks the text of a value: the allowed words, the pattern.
func (d *decoder) words(f field, n *node, path string) {
	text := fmt.Sprint(n.raw)
	enum, pattern := f.enum(), f.tag.Get("pattern")
	switch {
	case len(enum) > 0 && !slices.Contains(enum, text):
		d.report(n, path, "is not one of the allowed values"+d.shown(f, n), f.allowed(n))
	case pattern != "" && text != "" && !matches(pattern, text):
		d.report(n, path, "is too long or has characters that are not allowed"+d.shown(f, n), "write what matches "+pattern)
	}
}

func matches(pattern, text string) bool {
	ok, err := regexp.MatchString(pattern, text)
	return ok && err == nil
}
