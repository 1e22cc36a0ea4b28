package handlers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jmespath/go-jmespath"

	"github.com/fraiseql/observer/event"
)

// Condition is a compiled condition. It may be used by many goroutines at once.
type Condition struct {
	path *jmespath.JMESPath
	fast test         // the same condition without decoding the event; nil where it is not simple enough
	must *requirement // of the fast test; nil where none is known
	own  bool         // evaluates on a copy of its own, because sort_by sorts in place

	functions string     // that it calls and that do not take every type, for errors
	reads     [][]string // root and field of each path that starts at a root: what evaluating it costs
}

// CompileCondition compiles a condition: JMESPath over {event, data, before, changes}, where a bare number is a literal
// and changed('field'), changed_to('field', value), changed_from('field', value) ask about changes. The error is a
// [*SyntaxError].
func CompileCondition(expr string) (*Condition, error) { return compileCondition(expr, nil) }

// compileCondition compiles a condition that sees more names than the four.
func compileCondition(expr string, variables []string) (*Condition, error) {
	r, err := rewrite(expr, variables)
	if err != nil {
		return nil, err
	}
	path, err := compile(r.out.String())
	if err != nil {
		return nil, r.explain(err)
	}
	c := &Condition{path: path, own: r.sorts, functions: strings.Join(r.called, " or "), reads: r.reads}
	c.fast, c.must = simple(r.tokens, variables)
	return c, nil
}

// Match reports whether the event fulfils the condition. Where the condition cannot be evaluated, because a function got
// a value of a type that it does not take, it is false and the error says why. A nil Condition matches every event.
func (c *Condition) Match(e *event.Event) (bool, error) {
	switch {
	case c == nil:
		return true, nil
	case c.fast != nil:
		return c.fast(e, nil), nil
	}
	value, err := c.Eval(e)
	return err == nil && truthy(value), err
}

// Eval returns the value of the condition.
func (c *Condition) Eval(e *event.Event) (any, error) {
	view, err := e.View()
	if err != nil {
		return nil, fmt.Errorf("evaluate condition: %w", err)
	}
	return c.search(view)
}

func (c *Condition) search(view map[string]any) (value any, err error) {
	var roots any = view
	if c.own {
		roots = clone(view)
	}
	defer func() {
		if recover() != nil { // such as where contains compares two objects
			value, err = nil, fmt.Errorf("evaluate condition: %s got a value of the wrong type", c.functions)
		}
	}()
	value, err = c.path.Search(roots)
	if err != nil {
		return nil, fmt.Errorf("evaluate condition: %s", c.withoutValue(err.Error()))
	}
	return value, nil
}

// withoutValue puts a type in the place of the value in go-jmespath's "Invalid type for: VALUE, expected: TYPES", since
// errors are logged. Which function it was, go-jmespath does not say.
func (c *Condition) withoutValue(message string) string {
	const prefix, expected = "Invalid type for: ", ", expected: []jmespath.jpType{"
	at := strings.LastIndex(message, expected)
	if !strings.HasPrefix(message, prefix) || at < 0 {
		return message
	}
	takes := strings.Split(strings.NewReplacer(`"`, "", "}", "").Replace(message[at+len(expected):]), ", ")
	return c.functions + " got " + typeOf(message[len(prefix):at], takes) + " and takes " + strings.Join(takes, " or ")
}

// typeOf guesses the type of a value that go-jmespath has printed: it is none of those that would have been right.
func typeOf(printed string, takes []string) string {
	guess := "string"
	switch _, err := strconv.ParseFloat(printed, 64); {
	case printed == "<nil>":
		guess = "null"
	case printed == "true" || printed == "false":
		guess = "boolean"
	case strings.HasPrefix(printed, "map["):
		guess = "object"
	case strings.HasPrefix(printed, "["):
		return "array"
	case err == nil:
		guess = "number"
	}
	if slices.Contains(takes, guess) { // then it was text that looks like one
		return "string"
	}
	return guess
}

func compile(plain string) (path *jmespath.JMESPath, err error) {
	defer func() {
		if p := recover(); p != nil {
			path, err = nil, fmt.Errorf("not a JMESPath expression: %v", p)
		}
	}()
	return jmespath.Compile(plain)
}

// explain shows an error of go-jmespath in the user's text.
func (r *rewriter) explain(err error) error {
	found := &SyntaxError{Source: r.src, Message: err.Error()}
	if s := (jmespath.SyntaxError{}); errors.As(err, &s) {
		found.Offset = r.pieces.source(s.Offset)
		found.Message = tokenNames.Replace(strings.TrimPrefix(s.Error(), "SyntaxError: "))
	}
	return found
}

// tokenNames replaces go-jmespath's names of tokens by what stands in the text.
var tokenNames = strings.NewReplacer(
	"tUnquotedIdentifier", "a name", "tQuotedIdentifier", "a quoted name", "tStringLiteral", "text", "tJSONLiteral", "a value",
	"tLbracket", "[", "tRbracket", "]", "tLbrace", "{", "tRbrace", "}", "tLparen", "(", "tRparen", ")", "tFilter", "[?",
	"tFlatten", "[]", "tCurrent", "@", "tExpref", "&", "tNumber", "a number", "tComma", "a comma", "tColon", "a colon",
	"tStar", "*", "tDot", "a dot", "tPipe", "|", "tLTE", "<=", "tGTE", ">=", "tLT", "<", "tGT", ">", "tEQ", "==", "tNE", "!=",
	"tAnd", "&&", "tNot", "!", "tOr", "||", "tEOF", "the end", "lbracket", "[", "lbrace", "{", "identifier", "a name",
	"Unexpected token", "unexpected", "Invalid token", "unexpected", "Incomplete expression", "incomplete condition", "Expected", "expected",
)

// truthy is JMESPath's notion of true: everything but false, null and what is empty.
func truthy(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

func clone(value any) any {
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = clone(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k := range v {
			m[k] = clone(v[k])
		}
		return m
	}
	return value
}
