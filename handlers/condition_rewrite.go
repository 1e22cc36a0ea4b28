package handlers

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/event"
)

// rewriter turns a condition into plain JMESPath. What it leaves alone it copies, and it notes where each piece came
// from, so that a mistake found in the result is shown in what the user wrote.
type rewriter struct {
	src    string
	tokens []token
	out    strings.Builder
	pieces sourceMap
	copied int // src up to here is in out
	frames []frame
	closes map[int]int // before this token, so many ")" that a "!" asked for
	sorts  bool        // uses sort_by, which changes what it sorts
	called []string    // functions that do not take every type
	names  []string    // that stand for something at the root
	reads  [][]string  // root and field of each path that starts at a root

	shutCall int // the bracket that opened the call which ended last
}

const (
	maxCondition = 16 << 10 // go-jmespath recurses: this bounds its stack
	maxNesting   = 100
)

// rewrite returns the condition as go-jmespath takes it.
func rewrite(src string, variables []string) (*rewriter, error) {
	r := &rewriter{src: src, closes: map[int]int{}, frames: []frame{{}}, names: append(slices.Clip(variables), roots...)}
	if len(src) > maxCondition {
		return nil, r.fail(0, fmt.Sprintf("longer than %d bytes", maxCondition), "")
	}
	var err error
	if r.tokens, err = tokenize(src); err != nil {
		return nil, err
	}
	if len(r.tokens) == 1 {
		return nil, r.fail(0, "empty condition", "remove it to match every event")
	}
	for i := 0; i < len(r.tokens); {
		if i, err = r.step(i); err != nil {
			return nil, err
		}
	}
	r.pieces = append(r.pieces, piece{r.out.Len(), len(src), true})
	return r, nil
}

func (r *rewriter) fail(at int, message, hint string) error {
	return &SyntaxError{Source: r.src, Offset: at, Message: message, Hint: hint}
}

// step handles the token at i and returns the index of the next one.
func (r *rewriter) step(i int) (int, error) {
	t := r.tokens[i]
	for range r.closes[i] {
		r.write(t.start, ")")
	}
	switch {
	case t.kind == tokenNumber:
		return i + 1, r.number(i)
	case t.kind == tokenName && r.tokens[i+1].is("("):
		return r.call(i)
	case t.kind == tokenName, t.kind == tokenQuoted:
		if err := r.name(i); err != nil {
			return 0, err
		}
	case t.is("("), t.is("["), t.is("[?"), t.is("{"):
		return i + 1, r.open(i)
	case t.is(")"), t.is("]"), t.is("}"):
		return i + 1, r.shut(t)
	case t.is("!"):
		r.not(i)
	case t.is("@"), t.is("*"):
		if !r.top().inner && !r.prev(i).is(".") && !r.tokens[i+1].is(".") {
			r.reads = append(r.reads, []string{"event"}) // all of it
		}
	case t.kind == tokenSymbol:
		if err := r.operator(i); err != nil {
			return 0, err
		}
	}
	r.copyTo(t.end())
	return i + 1, nil
}

// operator handles what stands between operands.
func (r *rewriter) operator(i int) (err error) {
	f := r.top()
	switch t := r.tokens[i]; t.text {
	case "|":
		err = r.piped(i)
		f.inner, f.compared, f.joins = true, false, false
	case "&":
		if r.endsValue(i) {
			return r.fail(t.start, "& joins nothing", "write &&")
		}
		f.inner, f.compared, f.joins = true, false, false
	case ",":
		f.commas++
		f.inner, f.compared, f.joins = f.outer, false, false
	case "&&", "||":
		err = r.joined(i)
		f.compared, f.joins = false, true
	case "==", "!=":
		err = r.equality(i)
		f.compared = true
	case "<", "<=", ">", ">=":
		err = r.ordered(i)
		f.compared = true
	}
	return err
}

func (r *rewriter) prev(i int) token {
	if i == 0 {
		return token{}
	}
	return r.tokens[i-1]
}

// copyTo copies src up to there.
func (r *rewriter) copyTo(end int) {
	if end > r.copied {
		r.pieces = append(r.pieces, piece{r.out.Len(), r.copied, true})
		r.out.WriteString(r.src[r.copied:end])
		r.copied = end
	}
}

// write adds text that stands for what is at a place in src.
func (r *rewriter) write(at int, text string) {
	r.copyTo(at)
	r.pieces = append(r.pieces, piece{r.out.Len(), at, false})
	r.out.WriteString(text)
}

// replace writes text in the place of a token.
func (r *rewriter) replace(t token, text string) {
	r.write(t.start, text)
	r.copied = max(r.copied, t.end())
}

func (r *rewriter) number(i int) error {
	t := r.tokens[i]
	switch {
	case r.prev(i).is("."):
		return r.fail(t.start, "a number cannot follow .", "write ["+t.text+"] for an element of a list")
	case math.IsInf(event.Float(t.text), 0):
		return r.fail(t.start, "no number is that large here", "numbers end at 1.8e308")
	case !r.top().index:
		r.replace(t, "`"+t.text+"`")
		return nil
	}
	if n, err := strconv.Atoi(t.text); err != nil || n > 1<<30 || n < -1<<30 {
		return r.fail(t.start, t.text+" is no index", "write a whole number")
	}
	r.copyTo(t.end())
	return nil
}

// not lets "!" take the whole path that follows: for go-jmespath !data.paid is (!data).paid, which is always null.
func (r *rewriter) not(i int) {
	if r.tokens[i+1].is("!") {
		return
	}
	if end := r.operandEnd(i + 1); end > i+2 {
		r.copyTo(r.tokens[i].end())
		r.write(r.tokens[i].end(), "(")
		r.closes[end]++
	}
}

// operandEnd returns the index after the value that starts at i, with the path behind it.
func (r *rewriter) operandEnd(i int) int {
	i = r.primaryEnd(i)
	for {
		t := r.tokens[i]
		switch {
		case t.is(".") && r.tokens[i+1].kind != tokenEnd:
			i = r.primaryEnd(i + 1)
		case t.is("["), t.is("[?"):
			i = r.balancedEnd(i)
		case t.is("[]"):
			i++
		default:
			return i
		}
	}
}

func (r *rewriter) primaryEnd(i int) int {
	t := r.tokens[i]
	switch {
	case t.kind == tokenEnd:
		return i
	case t.kind == tokenName && r.tokens[i+1].is("("):
		return r.balancedEnd(i + 1)
	case t.is("("), t.is("["), t.is("[?"), t.is("{"):
		return r.balancedEnd(i)
	case t.kind == tokenSymbol && !t.is("*") && !t.is("@") && !t.is("[]"):
		return i
	}
	return i + 1
}

func (r *rewriter) balancedEnd(i int) int {
	depth := 0
	for ; r.tokens[i].kind != tokenEnd; i++ {
		switch t := r.tokens[i]; {
		case t.is("("), t.is("["), t.is("[?"), t.is("{"):
			depth++
		case t.is(")"), t.is("]"), t.is("}"):
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return i
}

// quotedName writes a name as JMESPath takes any name.
func quotedName(name string) string {
	b, _ := json.Marshal(name) // a string always marshals
	return string(b)
}
