package handlers

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// functions holds how many arguments each function of JMESPath takes; math.MaxInt stands for "or more".
var functions = map[string][2]int{
	"abs": {1, 1}, "avg": {1, 1}, "ceil": {1, 1}, "contains": {2, 2}, "ends_with": {2, 2}, "floor": {1, 1}, "join": {2, 2},
	"keys": {1, 1}, "length": {1, 1}, "map": {2, 2}, "max": {1, 1}, "max_by": {2, 2}, "merge": {1, math.MaxInt}, "min": {1, 1},
	"min_by": {2, 2}, "not_null": {1, math.MaxInt}, "reverse": {1, 1}, "sort": {1, 1}, "sort_by": {2, 2}, "starts_with": {2, 2},
	"sum": {1, 1}, "to_array": {1, 1}, "to_number": {1, 1}, "to_string": {1, 1}, "type": {1, 1}, "values": {1, 1},
}

// takeAll are the functions that take every type.
var takeAll = []string{"not_null", "to_array", "to_number", "to_string", "type"}

// changeSide says which side of a change our own functions compare; "" compares none.
var changeSide = map[string]string{"changed": "", "changed_to": "new", "changed_from": "old"}

// call handles the name of a function and its opening bracket.
func (r *rewriter) call(i int) (int, error) {
	name, bracket := r.tokens[i], r.tokens[i+1]
	if _, ours := changeSide[name.text]; ours {
		return r.change(i)
	}
	arity, known := functions[name.text]
	if hint := sqlWords[strings.ToLower(name.text)]; !known && hint != "" {
		return 0, r.fail(name.start, name.text+" is SQL", hint)
	}
	if !known {
		return 0, r.fail(name.start, "unknown function "+name.text, "known are changed, changed_from, changed_to, "+strings.Join(slices.Sorted(maps.Keys(functions)), ", "))
	}
	if name.text == "sort_by" {
		r.sorts = true
		r.reads = append(r.reads, []string{"event"}) // it is copied
	}
	if !slices.Contains(r.called, name.text) && !slices.Contains(takeAll, name.text) {
		r.called = append(r.called, name.text)
	}
	r.copyTo(bracket.end())
	return i + 2, r.push(frame{open: bracket, at: i + 1, function: name.text, least: arity[0], most: arity[1], inner: r.prev(i).is(".")})
}

// change rewrites changed('f') to (changes."f" != `null`), and changed_to('f', value) to
// (changes."f" != `null` && changes."f".new == (value)). Where changes are unknown all of them are false.
func (r *rewriter) change(i int) (int, error) {
	name, bracket, field := r.tokens[i], r.tokens[i+1], r.tokens[i+2]
	if r.top().inner || r.prev(i).is(".") {
		return 0, r.fail(name.start, name.text+" looks at the event, which is out of sight inside [?…], after |, & and .", "move it to the front, and join with &&")
	}
	if field.kind != tokenString {
		return 0, r.fail(field.start, name.text+" takes the name of a field first", "write "+changeForm(name.text))
	}
	if root, rest, dotted := strings.Cut(field.value, "."); dotted && slices.Contains(roots, root) {
		return 0, r.fail(field.start, name.text+" takes the name of a field of the row", "write "+rawString(rest))
	}
	path := "changes." + quotedName(field.value)
	text := "(" + path + " != `null`"
	side := changeSide[name.text]
	if side == "" {
		r.write(name.start, text)
		r.copied = field.end()
		return i + 3, r.push(frame{open: bracket, at: i + 1, function: name.text, least: 1, most: 1})
	}
	comma := r.tokens[i+3]
	if !comma.is(",") {
		return 0, r.fail(comma.start, name.text+" takes a value after the field", "write "+changeForm(name.text))
	}
	r.write(name.start, text+" && "+path+"."+side+" == (")
	r.copied = comma.end()
	return i + 4, r.push(frame{open: bracket, at: i + 1, close: "))", function: name.text, least: 2, most: 2, commas: 1})
}

func changeForm(name string) string {
	if changeSide[name] == "" {
		return name + "('field')"
	}
	return name + "('field', value)"
}
