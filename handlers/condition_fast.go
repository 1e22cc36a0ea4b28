package handlers

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fraiseql/observer/event"
)

// test is a condition that reads the raw JSON of the event, and of the variables around it in a template. With a hundred
// observers on one entity, most conditions are false, and decoding rows for them would cost more than everything else.
type test func(e *event.Event, vars *variable) bool

// simple compiles what most conditions are (comparisons of fields with literals or other fields, the changed… functions,
// joined by &&, || and !), and returns nil for anything else. The tokens are known to be a valid condition, so whatever
// this parser does not expect is left to go-jmespath. The requirement is nil where none is known.
func simple(tokens []token, variables []string) (test, *requirement) {
	p := &simpleParser{tokens: tokens, variables: variables}
	t, must := p.or()
	if p.failed || p.token().kind != tokenEnd {
		return nil, nil
	}
	return t, must
}

type simpleParser struct {
	tokens    []token
	variables []string
	at        int
	failed    bool
}

func (p *simpleParser) token() token { return p.tokens[p.at] }

func (p *simpleParser) take(symbol string) bool {
	if p.failed || !p.token().is(symbol) {
		return false
	}
	p.at++
	return true
}

func (p *simpleParser) need(symbol string) {
	if !p.take(symbol) {
		p.failed = true
	}
}

func (p *simpleParser) or() (test, *requirement) {
	t, must := p.and()
	for p.take("||") {
		left := t
		right, _ := p.and()
		t, must = func(e *event.Event, vars *variable) bool { return left(e, vars) || right(e, vars) }, nil
	}
	return t, must
}

func (p *simpleParser) and() (test, *requirement) {
	t, must := p.not()
	for p.take("&&") {
		left := t
		right, also := p.not()
		t, must = func(e *event.Event, vars *variable) bool { return left(e, vars) && right(e, vars) }, cmp.Or(must, also)
	}
	return t, must
}

func (p *simpleParser) not() (test, *requirement) {
	if !p.take("!") {
		return p.part(true)
	}
	negated := p.part
	if p.token().is("!") {
		negated = func(bool) (test, *requirement) { return p.not() }
	}
	t, _ := negated(false) // "!" binds closer than a comparison
	return func(e *event.Event, vars *variable) bool { return !t(e, vars) }, nil
}

// part reads a condition in brackets, a changed… function, or a value, which may be compared with another.
func (p *simpleParser) part(compared bool) (test, *requirement) {
	if p.take("(") {
		t, must := p.or()
		p.need(")")
		return t, must
	}
	if t := p.token(); t.kind == tokenName && p.tokens[p.at+1].is("(") {
		return p.change()
	}
	left := p.operand()
	if p.failed {
		return nil, nil
	}
	if symbol := p.token(); compared && isComparator(symbol) {
		p.at++
		return p.comparison(left, symbol.text, p.operand())
	}
	return func(e *event.Event, vars *variable) bool { return left.of(e, vars).truthy() }, nil
}

func (p *simpleParser) comparison(left *operand, symbol string, right *operand) (test, *requirement) {
	if p.failed {
		return nil, nil
	}
	var must *requirement
	if symbol == "==" {
		must = cmp.Or(required(left, right), required(right, left))
	}
	if t := textTest(left, right, symbol); t != nil {
		return t, must
	}
	compare := comparators[symbol]
	return func(e *event.Event, vars *variable) bool { return compare(left.of(e, vars), right.of(e, vars)) }, must
}

// textTest is the comparison of a field of a row with text, the most frequent of all, on the raw JSON; nil for any other.
func textTest(field, text *operand, symbol string) test {
	row := field.path != nil && !field.variable && field.attribute == nil
	if !row || text.path != nil || text.literal.kind != kindText || symbol != "==" && symbol != "!=" {
		return nil
	}
	path, want, equal := field.path, text.literal.text, symbol == "=="
	quoted, odd := `"`+want+`"`, strings.ContainsAny(want, `\"`) || strings.ContainsRune(want, utf8.RuneError)
	return func(e *event.Event, _ *variable) bool {
		raw, _ := e.Raw(path...)
		if raw == quoted && !odd {
			return equal
		}
		escape := strings.IndexByte(raw, '\\')
		if !odd && (escape < 0 || !strings.HasPrefix(quoted, raw[:escape])) { // other bytes are other text
			return !equal
		}
		v := valueOf(raw)
		return (v.kind == kindText && v.text == want) == equal
	}
}

func (p *simpleParser) change() (test, *requirement) {
	side, ours := changeSide[p.token().text]
	if !ours {
		p.failed = true
		return nil, nil
	}
	field := p.tokens[p.at+2].value
	p.at += 3
	if side == "" {
		p.need(")")
		return func(e *event.Event, _ *variable) bool { return changed(e, field) }, nil
	}
	p.need(",")
	want := p.operand()
	p.need(")")
	if p.failed {
		return nil, nil
	}
	path := &operand{path: []string{"changes", field, side}}
	return func(e *event.Event, vars *variable) bool {
		return changed(e, field) && path.of(e, vars).equal(want.of(e, vars))
	}, required(path, want)
}

func changed(e *event.Event, field string) bool {
	raw, ok := e.Raw("changes", field)
	return ok && raw != "null"
}

// operand is a path or a literal.
type operand struct {
	path      []string
	variable  bool                       // the path starts at a variable
	attribute func(e *event.Event) value // of an event, which needs no JSON; nil for any other path
	literal   value
}

func (o *operand) of(e *event.Event, vars *variable) value {
	switch {
	case o.path == nil:
		return o.literal
	case o.attribute != nil:
		return o.attribute(e)
	}
	return valueOf(o.raw(e, vars))
}

// raw returns the JSON at the path, "" when there is nothing.
func (o *operand) raw(e *event.Event, vars *variable) string {
	if !o.variable {
		raw, _ := e.Raw(o.path...)
		return raw
	}
	raw, _ := vars.find(o.path[0])
	raw, _ = event.Within(raw, o.path[1:])
	return raw
}

// eventValues are the fields of an event that are no JSON.
var eventValues = map[string]func(e *event.Event) value{
	"id":             func(e *event.Event) value { return textValue(e.ID) },
	"event_type":     func(e *event.Event) value { return textValue(string(e.Type)) },
	"entity_type":    func(e *event.Event) value { return textValue(e.Entity) },
	"entity_id":      func(e *event.Event) value { return textValue(e.EntityID) },
	"tenant_id":      func(e *event.Event) value { return nullableValue(e.TenantID) },
	"user_id":        func(e *event.Event) value { return nullableValue(e.UserID) },
	"source":         func(e *event.Event) value { return nullableValue(e.Source) },
	"actor_type":     func(e *event.Event) value { return nullableValue(e.ActorType) },
	"seq":            func(e *event.Event) value { return value{kind: kindNumber, number: float64(e.Seq)} },
	"schema_version": func(e *event.Event) value { return value{kind: kindNumber, number: float64(e.SchemaVersion)} },
}

func textValue(s string) value { return value{kind: kindText, text: s} }

func nullableValue(s string) value {
	if s == "" {
		return value{}
	}
	return textValue(s)
}

func (p *simpleParser) operand() *operand {
	if p.failed {
		return nil
	}
	t := p.token()
	p.at++
	switch t.kind {
	case tokenNumber, tokenLiteral:
		o := &operand{literal: valueOf(t.value)}
		p.failed = o.literal.kind == kindOther
		return o
	case tokenString:
		return &operand{literal: textValue(t.value)}
	case tokenName, tokenQuoted:
		o := &operand{path: p.path(t.value), variable: slices.Contains(p.variables, t.value)}
		if len(o.path) == 2 && o.path[0] == "event" {
			o.attribute = eventValues[o.path[1]]
		}
		return o
	}
	p.failed = true
	return nil
}

func (p *simpleParser) path(root string) []string {
	path := []string{root}
	for p.take(".") {
		t := p.token()
		if t.kind != tokenName && t.kind != tokenQuoted || p.tokens[p.at+1].is("(") {
			p.failed = true
			return nil
		}
		path = append(path, t.value)
		p.at++
	}
	return path
}
