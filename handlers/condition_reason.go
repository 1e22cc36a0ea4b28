package handlers

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/suggest"
)

// reason tells the values that decide a part.
func (x *explainer) reason(s span, failed bool) string {
	var compared []int
	symbols := x.symbols(s)
	for symbol := range comparators {
		compared = append(compared, symbols[symbol]...)
	}
	name, call := x.tokens[s.from].text, x.isCall(s)
	_, ours := changeSide[name]
	switch {
	case call && ours:
		return x.changeReason(s)
	case call || failed:
		return join(x.fields(s, false))
	case len(compared) == 1 && len(symbols["|"]) == 0: // behind a pipe, a name stands for something else
		left, right := x.operand(span{s.from, compared[0]}), x.operand(span{compared[0] + 1, s.to})
		return join(append(left.notes, right.notes...)) + kindRule(x.tokens[compared[0]].text, left.raw, right.raw)
	}
	return join(x.operand(s).notes)
}

// isCall reports whether a part is nothing but the call of a function.
func (x *explainer) isCall(s span) bool {
	return x.tokens[s.from].kind == tokenName && x.tokens[s.from+1].is("(") && x.balancedEnd(s.from+1) == s.to
}

// join lists notes, each once.
func join(notes []string) string {
	var list []string
	for _, note := range notes {
		if !slices.Contains(list, note) {
			list = append(list, note)
		}
	}
	return strings.Join(list, "; ")
}

// changeReason tells what the event changed for one of our own functions.
func (x *explainer) changeReason(s span) string {
	name, field := x.tokens[s.from].text, x.tokens[s.from+2].value
	if changes, _ := x.event.Raw("changes"); changes == "null" {
		return x.noChanges()
	}
	raw, ok := x.event.Raw("changes", field)
	if !ok || raw == "null" {
		return field + " did not change" + x.unchanged(field)
	}
	was, is := within(raw, "old"), within(raw, "new")
	notes := []string{field + " went from " + show(was) + " to " + show(is)}
	if changeSide[name] == "" {
		return notes[0]
	}
	want := x.operand(span{s.from + 4, s.to - 1})
	return join(append(notes, want.notes...)) + kindRule("==", within(raw, changeSide[name]), want.raw)
}

func within(raw, key string) string {
	found, ok := event.Within(raw, []string{key})
	if !ok {
		return "null"
	}
	return found
}

func (x *explainer) noChanges() string {
	switch {
	case x.event.Type != event.Update:
		return "the changes are unknown: only an UPDATE has some, and this event is of type " + string(x.event.Type)
	case x.event.Before == nil:
		return "the changes are unknown: the event has no before-image"
	}
	return "the changes are unknown"
}

func (x *explainer) unchanged(field string) string {
	data, _ := x.event.Raw("data")
	if raw, ok := event.Within(data, []string{field}); ok {
		return ": it is " + show(raw)
	}
	if doc := gjson.Parse(data); doc.IsObject() {
		return ": " + noSuchField("data", doc, field)
	}
	return ""
}

// term is one side of a comparison, or a part that compares nothing.
type term struct {
	notes []string
	raw   string // its value as JSON, "" where it has none
}

func (x *explainer) operand(s span) term {
	if t := x.tokens[s.from]; s.to == s.from+1 {
		switch t.kind {
		case tokenString:
			return term{raw: quotedName(t.value)}
		case tokenNumber, tokenLiteral:
			return term{raw: t.value}
		}
	}
	if p := x.fieldPath(s.from); len(p) > 0 && p[len(p)-1].end == s.to {
		raw, note, _ := x.field(p)
		return term{[]string{note}, raw}
	}
	source, raw := x.text(s), ""
	if c, err := CompileCondition(source); err == nil {
		if value, err := c.Eval(x.event); err == nil {
			raw = jsonOf(value)
		}
	}
	notes := x.fields(s, true)
	if raw != "" {
		notes = append([]string{source + " is " + show(raw)}, notes...)
	}
	return term{notes, raw}
}

func jsonOf(value any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(value) != nil { // an infinite number
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// kindRule says why a comparison of these two values cannot hold, or cannot fail, whatever they are.
func kindRule(operator, left, right string) string {
	a, b := valueOf(left), valueOf(right)
	switch {
	case a.kind == kindNull || b.kind == kindNull:
	case operator != "==" && operator != "!=":
		if a.kind != kindNumber || b.kind != kindNumber {
			return ", and " + operator + " compares numbers only"
		}
	case kindName(a) != kindName(b):
		return ", and " + kindName(a) + " never equals " + kindName(b)
	}
	return ""
}

func kindName(v value) string {
	switch {
	case v.kind == kindBool:
		return "a boolean"
	case v.kind == kindNumber:
		return "a number"
	case v.kind == kindText:
		return "text"
	case v.text[0] == '[':
		return "a list"
	}
	return "an object"
}

// fields tells of each field of the event in a part what it is, or only of those that are not there.
func (x *explainer) fields(s span, onlyMissing bool) []string {
	var notes []string
	inner := []bool{false} // for each bracket that is open: names stand for something else
	for i := s.from; i < s.to; i++ {
		t, top, afterDot := x.tokens[i], len(inner)-1, i > s.from && x.prev(i).is(".")
		switch {
		case t.is("[?"), t.is("{") && afterDot, t.is("[") && (afterDot || i > s.from && x.endsValue(i)):
			i = x.balancedEnd(i) - 1
		case t.is("("), t.is("["), t.is("{"):
			inner = append(inner, inner[top])
		case t.is(")"), t.is("]"), t.is("}"):
			inner = inner[:top]
		case t.is("|"), t.is("&"):
			inner[top] = true
		case t.is(","):
			inner[top] = top > 0 && inner[top-1]
		case inner[top], afterDot, x.tokens[i+1].is(":"):
		default:
			p := x.fieldPath(i)
			if p == nil {
				continue
			}
			if _, note, found := x.field(p); !found || !onlyMissing {
				notes = append(notes, note)
			}
			i = x.operandEnd(i) - 1
		}
	}
	return notes
}

// pathStep is the name of a field or the place in a list, with where in the tokens it ends.
type pathStep struct {
	name  string
	index bool
	end   int
}

// fieldPath reads the field that starts at a token, such as data.items[0].price: as much of it as names one value.
func (x *explainer) fieldPath(i int) []pathStep {
	isName := func(i int) bool {
		return x.tokens[i].kind == tokenQuoted || x.tokens[i].kind == tokenName && !x.tokens[i+1].is("(")
	}
	if !isName(i) || !slices.Contains(roots, x.tokens[i].value) {
		return nil
	}
	path := []pathStep{{x.tokens[i].value, false, i + 1}}
	for i++; ; {
		switch t := x.tokens[i]; {
		case t.is(".") && isName(i+1):
			path = append(path, pathStep{x.tokens[i+1].value, false, i + 2})
			i += 2
		case t.is("[") && x.tokens[i+1].kind == tokenNumber && x.tokens[i+2].is("]"):
			path = append(path, pathStep{x.tokens[i+1].text, true, i + 3})
			i += 3
		default:
			return path
		}
	}
}

// field returns the JSON of a field, and what to tell about it.
func (x *explainer) field(path []pathStep) (raw, note string, found bool) {
	start := path[0].end - 1
	source := func(steps int) string { return x.text(span{start, path[steps-1].end}) }
	raw, _ = x.event.Raw(path[0].name)
	for n := 1; n < len(path); n++ {
		next, ok := path[n].of(raw)
		if !ok {
			return "null", source(len(path)) + " is null: " + x.missing(source(n), raw, path[:n+1]), false
		}
		raw = next
	}
	return raw, source(len(path)) + " is " + show(raw), true
}

func (s pathStep) of(raw string) (string, bool) {
	doc := gjson.Parse(raw)
	switch {
	case !s.index && doc.IsObject():
		return event.Within(raw, []string{s.name})
	case s.index && doc.IsArray():
		n, err := strconv.Atoi(s.name)
		list := doc.Array()
		if n < 0 {
			n += len(list)
		}
		if err == nil && n >= 0 && n < len(list) {
			return list[n].Raw, true
		}
	}
	return "", false
}

// missing says why the last step of a path leads nowhere from parent, whose JSON is raw.
func (x *explainer) missing(parent, raw string, path []pathStep) string {
	last, doc := path[len(path)-1], gjson.Parse(raw)
	root := ""
	if len(path) == 2 {
		root = path[0].name
	}
	switch null := doc.Type == gjson.Null; {
	case null && root == "before":
		return "the event has no before-image"
	case null && root == "changes":
		return x.noChanges()
	case null:
		return parent + " is null"
	case doc.IsObject() && !last.index && root == "changes":
		return last.name + " did not change" + x.unchanged(last.name)
	case doc.IsObject() && !last.index:
		return noSuchField(parent, doc, last.name)
	case doc.IsObject():
		return parent + " is an object, not a list"
	case doc.IsArray() && last.index:
		return "the length of " + parent + " is " + strconv.Itoa(len(doc.Array()))
	case doc.IsArray():
		return parent + " is a list"
	}
	return parent + " is " + show(raw)
}

const (
	maxShown  = 60 // characters of a value
	maxFields = 12 // names of an object's fields
)

func noSuchField(parent string, object gjson.Result, name string) string {
	var names []string
	object.ForEach(func(key, _ gjson.Result) bool {
		names = append(names, event.Text(key.Raw))
		return true
	})
	near := suggest.Nearest(name, names)
	if near != "" {
		near = "did you mean " + near + "? "
	}
	list := strings.Join(names[:min(len(names), maxFields)], ", ")
	if more := len(names) - maxFields; more > 0 {
		list += " and " + strconv.Itoa(more) + " more"
	}
	if list == "" {
		list = "no field"
	}
	return "there is no such field (" + near + parent + " has " + list + ")"
}

// show returns JSON on one line, with all the digits of its numbers, cut where it is long.
func show(raw string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(raw)) == nil {
		raw = b.String()
	}
	if text := []rune(raw); len(text) > maxShown {
		return string(text[:maxShown]) + "…"
	}
	return raw
}
