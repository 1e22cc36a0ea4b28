package handlers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// frame is what stands between a pair of brackets.
type frame struct {
	open     token
	close    string // how the closing bracket is written
	function string // name of the function whose arguments these are
	least    int    // arguments that it takes
	most     int
	commas   int
	index    bool // [1], [1:2]: numbers are left alone
	inner    bool // the current value is not the event: inside a filter, after a pipe, …
	outer    bool // inner where the brackets open, which counts again after a comma
	at       int  // index of open
	compared bool // since the last && or ||, or whatever else separates, something was compared
	joins    bool // since the last | or comma there was && or ||
}

func (r *rewriter) top() *frame { return &r.frames[len(r.frames)-1] }

func (r *rewriter) push(f frame) error {
	if len(r.frames) > maxNesting {
		return r.fail(f.open.start, fmt.Sprintf("nested deeper than %d", maxNesting), "")
	}
	f.inner = f.inner || r.top().inner
	f.outer = f.inner
	r.frames = append(r.frames, f)
	return nil
}

func (r *rewriter) open(i int) error {
	t, next := r.tokens[i], r.tokens[i+1]
	if t.is("(") && r.endsValue(i) {
		return r.fail(t.start, "only the name of a function stands before (", "")
	}
	f := frame{open: t, inner: t.is("[?") || !t.is("(") && r.prev(i).is(".")}
	if t.is("[") {
		f.index = next.is(":") || next.kind == tokenNumber && (r.tokens[i+2].is("]") || r.tokens[i+2].is(":"))
		if f.index && !next.is(":") && r.tokens[i+2].is("]") && !r.endsValue(i) && !r.top().inner {
			f.index = false // an event is no list: this is a list of one number
		}
	}
	r.copyTo(t.end())
	return r.push(f)
}

// endsValue reports whether a value ends before the token at i.
func (r *rewriter) endsValue(i int) bool {
	switch t := r.prev(i); t.kind {
	case tokenEnd:
		return false
	case tokenSymbol:
		return t.is(")") || t.is("]") || t.is("}") || t.is("@") || t.is("*") || t.is("[]")
	default:
		return true
	}
}

var opening = map[string][]string{")": {"("}, "]": {"[", "[?"}, "}": {"{"}}

func (r *rewriter) shut(t token) error {
	f := *r.top()
	if !slices.Contains(opening[t.text], f.open.text) {
		return r.fail(t.start, "nothing opened this "+t.text, "")
	}
	if f.function != "" {
		if err := r.arity(f, t); err != nil {
			return err
		}
		r.shutCall = f.at
	}
	r.frames = r.frames[:len(r.frames)-1]
	if f.close != "" {
		r.replace(t, f.close)
	}
	r.copyTo(t.end())
	return nil
}

func (r *rewriter) arity(f frame, t token) error {
	n := f.commas + 1
	if f.commas == 0 && strings.TrimSpace(r.src[f.open.end():t.start]) == "" {
		n = 0
	}
	switch {
	case n >= f.least && n <= f.most:
		return nil
	case f.least == f.most:
		return r.fail(f.open.start, fmt.Sprintf("%s takes %s, not %d", f.function, arguments(f.least), n), "")
	default:
		return r.fail(f.open.start, f.function+" takes one argument or more, not none", "")
	}
}

func arguments(n int) string {
	if n == 1 {
		return "one argument"
	}
	return strconv.Itoa(n) + " arguments"
}
