package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// decoder fills a Config and collects every problem on the way.
type decoder struct {
	opts     Options
	cfg      *Config
	merged   *merged
	problems Problems
	blamed   map[string]bool // keys that have a problem
	misspelt map[string]bool // keys that an unknown key beside them was probably meant to be
}

// report adds a problem with a value. A value has one problem at most: the first one explains the others.
func (d *decoder) report(n *node, path, message, hint string) {
	if n.bad {
		return
	}
	n.bad = true
	d.add(n.pos, path, message, hint)
}

func (d *decoder) add(pos Position, path, message, hint string) {
	d.blamed[path] = true
	d.problems.List = append(d.problems.List, Problem{Position: pos, Key: path, Message: message, Hint: hint})
}

// table decodes a table whose keys are the fields of dst. n is nil where the file has no such table.
func (d *decoder) table(dst reflect.Value, n *node, path string) {
	fields := fieldsOf(dst.Type())
	if !d.enter(n, path, "["+path+"]") {
		n = nil
	}
	d.unknown(n, path, fields)
	d.fields(dst, fields, n, path)
}

// enter notes where a table is and reports whether it is one.
func (d *decoder) enter(n *node, path, header string) bool {
	if n == nil {
		return true
	}
	d.cfg.values.note(path, n)
	if n.kind != kindTable {
		d.report(n, path, fmt.Sprintf("is %s, not a table", n.kind), "write its keys below "+header)
		return false
	}
	return true
}

func (d *decoder) fields(dst reflect.Value, fields []field, n *node, path string) {
	for _, f := range fields {
		value, p := dst.FieldByIndex(f.index), join(path, f.key)
		switch {
		case f.isTable():
			d.table(value, n.child(f.key), p)
		case f.isTables():
			d.tables(value, f, n.child(f.key), p)
		default:
			d.key(value, f, n, p)
		}
	}
	d.oneOf(fields, n, path)
}

// tables decodes an array of tables.
func (d *decoder) tables(dst reflect.Value, f field, n *node, path string) {
	header := "[[" + withoutIndexes(path) + "]]"
	if f.required() && !d.misspelt[path] && (n == nil || n.kind == kindArray && len(n.items) == 0) {
		d.add(d.cfg.At(path), path, "is missing", "add "+header)
	}
	if n == nil {
		return
	}
	d.cfg.values.note(path, n)
	if n.kind != kindArray {
		d.report(n, path, fmt.Sprintf("is %s, not an array of tables", n.kind), "write "+header)
		return
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		p := at(path, i)
		if a, ok := reflect.TypeAssert[*Action](dst.Index(i).Addr()); ok {
			d.action(a, item, p)
			continue
		}
		if !d.enter(item, p, header) {
			continue
		}
		fields := fieldsOf(dst.Type().Elem())
		d.unknown(item, p, fields)
		d.fields(dst.Index(i), fields, item, p)
	}
}

// key decodes one scalar, list or map.
func (d *decoder) key(dst reflect.Value, f field, parent *node, path string) {
	n := d.find(f, parent, path)

	d.cfg.values.add(path, n, f, dst)
	switch {
	case n == nil || n.raw == "":
		if f.required() {
			d.missing(n, path)
		}
	case n.bad:
		return
	}
	if n != nil {
		d.value(dst, f, n, path)
	}
}

// find returns the value that counts for a key, nil when nothing sets it.
func (d *decoder) find(f field, parent *node, path string) *node {
	if _, static := d.merged.names[path]; static {
		return d.merged.value(path)
	}
	if n := parent.child(f.key); n != nil {
		return n
	}
	if text, ok := f.tag.Lookup("default"); ok {
		return &node{kind: kindText, raw: text, loose: true}
	}
	return nil
}

func (d *decoder) missing(n *node, path string) {
	if d.misspelt[path] {
		return
	}
	if n != nil {
		d.report(n, path, "is empty", "write a value")
		return
	}
	d.add(d.cfg.At(path), path, "is missing", "add "+path[strings.LastIndexByte(path, '.')+1:]+" = …")
}

// oneOf checks the groups of keys of which exactly one must be set.
func (d *decoder) oneOf(fields []field, n *node, path string) {
	groups := map[string][]field{}
	for _, f := range fields {
		if g := f.tag.Get("oneof"); g != "" && groups[g] == nil {
			groups[g] = groupOf(fields, g)
			d.group(groups[g], n, path)
		}
	}
}

func groupOf(fields []field, name string) []field {
	var group []field
	for _, f := range fields {
		if f.tag.Get("oneof") == name {
			group = append(group, f)
		}
	}
	return group
}

func (d *decoder) group(group []field, n *node, path string) {
	names := keysOf(group)
	var set *node
	var first string
	for _, f := range group {
		c := n.child(f.key)
		switch {
		case c == nil || c.raw == "" && !c.bad:
		case set != nil:
			d.report(c, join(path, f.key), "is set beside "+first, "keep one of them")
		default:
			set, first = c, f.key
		}
	}
	near := slices.ContainsFunc(names, func(name string) bool { return d.misspelt[join(path, name)] })
	if set == nil && n != nil && !near {
		d.add(n.pos, join(path, names[0]), "is missing", "set "+strings.Join(names, " or "))
	}
}
