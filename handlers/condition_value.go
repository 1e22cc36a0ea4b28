package handlers

import (
	"reflect"
	"strings"

	"github.com/fraiseql/observer/event"
)

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindOther // an object or a list
)

// value is a JSON value, decoded as far as a comparison needs.
type value struct {
	kind   kind
	yes    bool
	number float64
	text   string // of kindOther: its JSON
}

// valueOf reads valid JSON; nothing at all is null.
func valueOf(raw string) value {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return value{}
	}
	switch raw[0] {
	case 'n':
		return value{}
	case 't', 'f':
		return value{kind: kindBool, yes: raw[0] == 't'}
	case '"':
		return value{kind: kindText, text: event.Text(raw)}
	case '{', '[':
		return value{kind: kindOther, text: raw}
	}
	return value{kind: kindNumber, number: event.Float(raw)}
}

func (v value) truthy() bool {
	switch v.kind {
	case kindBool:
		return v.yes
	case kindNumber:
		return true
	case kindText:
		return v.text != ""
	case kindOther:
		return strings.TrimSpace(v.text[1:len(v.text)-1]) != ""
	}
	return false
}

func (v value) equal(w value) bool {
	if v.kind != kindOther || w.kind != kindOther {
		return v == w
	}
	if v.text == w.text {
		return true
	}
	a, err := event.Value(v.text)
	b, other := event.Value(w.text)
	return err == nil && other == nil && reflect.DeepEqual(a, b)
}

// comparators are JMESPath's: what is no number is neither below nor above anything.
var comparators = map[string]func(a, b value) bool{
	"==": value.equal,
	"!=": func(a, b value) bool { return !a.equal(b) },
	"<":  ordered(func(a, b float64) bool { return a < b }),
	"<=": ordered(func(a, b float64) bool { return a <= b }),
	">":  ordered(func(a, b float64) bool { return a > b }),
	">=": ordered(func(a, b float64) bool { return a >= b }),
}

func ordered(compare func(a, b float64) bool) func(a, b value) bool {
	return func(a, b value) bool {
		return a.kind == kindNumber && b.kind == kindNumber && compare(a.number, b.number)
	}
}
