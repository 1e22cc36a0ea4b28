package handlers

import (
	"slices"
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// roots are what a condition sees.
var roots = []string{"event", "data", "before", "changes"}

const matchHelp = "write starts_with(data.field, 'text'), ends_with or contains"

// sqlWords says what to write instead of what SQL would.
var sqlWords = map[string]string{
	"and": "write &&", "or": "write ||", "not": "write ! before what is negated",
	"is": "write == `null` or != `null`", "in": "write contains(['a', 'b'], data.field)",
	"like": matchHelp, "ilike": matchHelp, "between": "write data.field >= 1 && data.field <= 9",
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
	case r.endsValue(i) && functions[t.text][1] > 0 && t.kind == tokenName:
		return r.fail(t.start, t.text+" is a function", "write "+t.text+"(…) before what it takes")
	case r.endsValue(i): // go-jmespath says what is wrong with that
		return nil
	case constants[t.text] && isComparator(prev) && !r.tokens[i+1].is("."):
		return r.fail(t.start, t.text+" is the name of a field here", "write `"+t.text+"` between backticks")
	case atRoot && !slices.Contains(r.names, t.value):
		return r.fail(t.start, t.text+" is none of "+strings.Join(r.names, ", "), r.meant(i))
	case atRoot:
		r.read(i)
	case r.top().inner || i < 2 || !prev.is(".") || r.prev(i-2).is("."):
		return nil
	case r.tokens[i-2].value == "event" && !slices.Contains(attributes, t.value):
		return r.fail(t.start, "an event has no "+t.text, didYouMean(t.value, attributes, "it has "+strings.Join(attributes, ", ")))
	case r.tokens[i-2].value == loopName && slices.Contains(r.names, loopName) && !slices.Contains(loopFields, t.value):
		return r.fail(t.start, "a loop has no "+t.text, didYouMean(t.value, loopFields, "it has "+strings.Join(loopFields, ", ")))
	}
	return nil
}

// read notes what the path at i reads.
func (r *rewriter) read(i int) {
	path := []string{r.tokens[i].value}
	for len(path) < 2 && r.tokens[i+1].is(".") {
		i += 2
		if t := r.tokens[i]; t.kind != tokenName && t.kind != tokenQuoted {
			break
		}
		path = append(path, r.tokens[i].value)
		if path[0] == "event" && slices.Contains(images, path[1]) {
			path = path[1:] // event.data is data
		}
	}
	r.reads = append(r.reads, path)
}

// constants are no words of JMESPath: it knows them between backticks only.
var constants = map[string]bool{"true": true, "false": true, "null": true}

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
	case constants[t.text]:
		return "write `" + t.text + "` between backticks"
	case near != "":
		return "did you mean " + near + "?"
	case t.kind == tokenName && r.prev(i).is(",") && strings.HasPrefix(r.top().function, "changed_"):
		return "write " + rawString(t.value) + " for text, or " + path + " for a field"
	case !isComparator(operator) || r.tokens[i+1].is("."):
	case ordered && isNumber(t.value):
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
