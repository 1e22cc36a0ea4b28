package handlers

import (
	"fmt"
	"slices"
	"strings"
)

// This file refuses what JMESPath takes and answers the same for every event, so that it can only be a mistake.

// kinds is a set of kinds.
type kinds uint8

func setOf(list ...kind) kinds {
	var k kinds
	for _, one := range list {
		k |= 1 << one
	}
	return k
}

func (k kinds) String() string {
	switch k {
	case setOf(kindBool):
		return "true or false"
	case setOf(kindNumber):
		return "a number"
	case setOf(kindNull):
		return "null"
	case setOf(kindOther):
		return "a list or an object"
	default: // with null, in our tables
		return "text"
	}
}

// known is an operand of which it is certain what it can be.
type known struct {
	token  token // where an error is shown
	name   string
	kinds  kinds
	values []string // that it can have, nil when there are others
}

// eventKinds are the kinds of an event's fields.
var eventKinds = map[string]kinds{
	"id": setOf(kindText), "event_type": setOf(kindText), "entity_type": setOf(kindText), "entity_id": setOf(kindText), "timestamp": setOf(kindText),
	"tenant_id": setOf(kindText, kindNull), "user_id": setOf(kindText, kindNull), "source": setOf(kindText, kindNull), "actor_type": setOf(kindText, kindNull),
	"seq": setOf(kindNumber), "schema_version": setOf(kindNumber),
}

// resultKinds are the kinds of what functions return.
var resultKinds = map[string]kinds{
	"changed": setOf(kindBool), "changed_to": setOf(kindBool), "changed_from": setOf(kindBool),
	"contains": setOf(kindBool), "starts_with": setOf(kindBool), "ends_with": setOf(kindBool),
	"abs": setOf(kindNumber), "avg": setOf(kindNumber), "ceil": setOf(kindNumber), "floor": setOf(kindNumber), "length": setOf(kindNumber),
	"sum": setOf(kindNumber), "to_number": setOf(kindNumber, kindNull), "join": setOf(kindText), "to_string": setOf(kindText), "type": setOf(kindText),
	"keys": setOf(kindOther), "values": setOf(kindOther), "map": setOf(kindOther), "merge": setOf(kindOther), "sort": setOf(kindOther),
	"sort_by": setOf(kindOther), "to_array": setOf(kindOther),
}

// knownValues are all values that an operand can have.
var knownValues = map[string][]string{
	"event.event_type": {"INSERT", "UPDATE", "DELETE", "CUSTOM"},
	"type":             {"number", "string", "boolean", "array", "object", "null"},
}

// equality refuses == and != between what can never be equal.
func (r *rewriter) equality(i int) error {
	left, right := r.knownBefore(i), r.knownAfter(i+1)
	if left.kinds == 0 || right.kinds == 0 || r.top().compared {
		return nil
	}
	if left.name == "" { // a literal; the field or function is named first
		left, right = right, left
	}
	literal := right.token
	switch {
	case left.name == "" || right.name != "":
		return nil
	case left.kinds&right.kinds == 0:
		hint := ""
		switch {
		case literal.kind == tokenNumber && left.kinds&setOf(kindText) != 0:
			hint = "write " + rawString(literal.text)
		case literal.kind == tokenString && left.kinds&setOf(kindNumber) != 0 && isNumber(literal.value):
			hint = "write " + literal.value + " without quotes"
		}
		return r.fail(literal.start, fmt.Sprintf("%s is %s and never equals %s", left.name, left.kinds, right.kinds), hint)
	case literal.kind == tokenString && left.values != nil && !slices.Contains(left.values, literal.value):
		hint := didYouMean(literal.value, left.values, "it is one of "+strings.Join(left.values, ", "))
		return r.fail(literal.start, left.name+" is never "+literal.text, hint)
	}
	return nil
}

// knownBefore is the operand that ends before the token at i.
func (r *rewriter) knownBefore(i int) known {
	switch t := r.prev(i); {
	case i > 2 && r.tokens[i-2].is(".") && !r.prev(i-3).is("."):
		return r.knownField(i - 3)
	case t.is(")") && r.shutCall > 0 && r.balancedEnd(r.shutCall) == i && !r.prev(r.shutCall-1).is("."):
		return r.knownCall(r.shutCall - 1)
	default:
		return knownLiteral(t)
	}
}

// knownAfter is the operand that starts at i.
func (r *rewriter) knownAfter(i int) known {
	end := r.operandEnd(i)
	switch {
	case end == i+3 && r.tokens[i+1].is("."):
		return r.knownField(i)
	case end > i+1 && r.tokens[i+1].is("(") && r.balancedEnd(i+1) == end:
		return r.knownCall(i)
	case end == i+1:
		return knownLiteral(r.tokens[i])
	}
	return known{}
}

func (r *rewriter) knownField(i int) known {
	field := r.tokens[i+2]
	if r.tokens[i].value != "event" || r.top().inner || r.prev(i).is("!") || r.tokens[i].kind == tokenString {
		return known{}
	}
	name := "event." + field.value
	return known{r.tokens[i], name, eventKinds[field.value], knownValues[name]}
}

func (r *rewriter) knownCall(i int) known {
	name := r.tokens[i]
	if name.kind != tokenName || r.prev(i).is("!") {
		return known{}
	}
	return known{name, name.text, resultKinds[name.text], knownValues[name.text]}
}

func knownLiteral(t token) known {
	switch t.kind {
	case tokenString:
		return known{token: t, kinds: setOf(kindText)}
	case tokenNumber, tokenLiteral:
		return known{token: t, kinds: setOf(valueOf(t.value).kind)}
	}
	return known{}
}

// ordered refuses to order text, and what is no number: JMESPath would answer null, and the condition would never be true.
func (r *rewriter) ordered(i int) error {
	t := r.tokens[i]
	if t.is("<") && r.tokens[i+1].is(">") {
		return r.fail(t.start, "<> is SQL", "write !=")
	}
	if r.top().compared {
		return r.fail(t.start, "this compares true or false, which is no number", "write data.field > 1 && data.field < 5")
	}
	for _, k := range []known{r.knownBefore(i), r.knownAfter(i + 1)} {
		switch {
		case k.kinds == 0 || k.kinds&setOf(kindNumber) != 0:
		case k.name != "":
			return r.fail(k.token.start, fmt.Sprintf("%s compares numbers only, and %s is %s", t.text, k.name, k.kinds), "use == or !=")
		default:
			return r.fail(k.token.start, fmt.Sprintf("%s compares numbers only, and this is %s", t.text, k.kinds), "use == or !=, or write a number")
		}
	}
	return nil
}

// joined refuses text or a number as what && or || joins with a comparison, as in data.status == 'a' || 'b': it is always
// true.
func (r *rewriter) joined(i int) error {
	f, t := r.top(), r.tokens[i+1]
	if !f.compared || f.function != "" || f.open.is("{") || f.open.is("[") || t.kind != tokenString && t.kind != tokenNumber || t.value == "" {
		return nil
	}
	if next := r.tokens[i+2]; next.kind != tokenEnd && !next.is(")") && !next.is("]") && !next.is("||") && !next.is("&&") {
		return nil
	}
	return r.fail(t.start, t.text+" alone is always true", "write data.field == "+t.text)
}

// piped refuses a field of a comparison, as in data.a == 1 | data.b == 2.
func (r *rewriter) piped(i int) error {
	f, t := r.top(), r.tokens[i+1]
	if f.compared && !f.joins && (t.kind == tokenName || t.kind == tokenQuoted) && !r.tokens[i+2].is("(") {
		return r.fail(r.tokens[i].start, "| hands on true or false, which has no fields", "write || for or")
	}
	return nil
}
