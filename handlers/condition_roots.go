package handlers

import (
	"slices"
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// roots are what a condition sees.
var roots = []string{"event", "data", "before", "changes"}

// sqlWords says what to write instead of what SQL would.
var sqlWords = map[string]string{
	"and": "write &&", "or": "write ||", "not": "write ! before what is negated",
	"is": "write == `null` or != `null`", "in": "write contains(['a', 'b'], data.field)",
	"like": "write starts_with(data.field, 'text'), ends_with or contains", "between": "write data.field >= 1 && data.field <= 9",
}

// name refuses a name that stands for nothing in any event: JMESPath takes it for null, and the condition never holds.
func (r *rewriter) name(i int) error {
	t, prev := r.tokens[i], r.prev(i)
	atRoot := !r.top().inner && (!prev.is(".") || i > 1 && r.tokens[i-2].is("@") && !r.endsValue(i-2))
	operator := t.kind == tokenName && sqlWords[strings.ToLower(t.text)] != "" && !prev.is(".")
	switch {
	case r.top().open.is("{") && r.tokens[i+1].is(":"): // a key of a multi-select hash
		return nil
	case operator && (atRoot || r.endsValue(i)):
		return r.fail(t.start, t.text+" is SQL", sqlWords[strings.ToLower(t.text)])
	case r.endsValue(i): // go-jmespath says what is wrong with that
		return nil
	case atRoot && !slices.Contains(r.names, t.value):
		return r.fail(t.start, t.text+" is none of "+strings.Join(r.names, ", "), r.meant(i))
	case !r.top().inner && i > 1 && prev.is(".") && r.tokens[i-2].value == "event" && !r.prev(i-2).is(".") && !slices.Contains(attributes, t.value):
		hint := "it has " + strings.Join(attributes, ", ")
		if near := suggest.Nearest(t.value, attributes); near != "" {
			hint = "did you mean " + near + "?"
		}
		return r.fail(t.start, "an event has no "+t.text, hint)
	}
	return nil
}

// meant guesses what an unknown name at the root was meant to be.
func (r *rewriter) meant(i int) string {
	t := r.tokens[i]
	path := "data." + t.text
	operator := r.tokens[i+1]
	if isComparator(r.prev(i)) {
		operator = r.prev(i)
	}
	ordered := operator.text != "==" && operator.text != "!="
	switch near := suggest.Nearest(t.value, r.names); {
	case t.text == "true" || t.text == "false" || t.text == "null":
		return "write `" + t.text + "` between backticks"
	case near != "":
		return "did you mean " + near + "?"
	case !isComparator(operator) || r.tokens[i+1].is("."):
	case ordered && t.value != "" && numberForm.FindString(t.value) == t.value:
		return "write " + t.value + " without quotes"
	case ordered:
	case t.kind == tokenQuoted:
		return "text stands between single quotes: " + rawString(t.value)
	case isComparator(r.prev(i)):
		return "write " + rawString(t.value) + " for text, or " + path + " for a field"
	}
	return "did you mean " + path + "?"
}

func isComparator(t token) bool { return t.kind == tokenSymbol && comparators[t.text] != nil }

// rawString writes text as a literal of JMESPath.
func rawString(text string) string { return "'" + strings.ReplaceAll(text, "'", `\'`) + "'" }
