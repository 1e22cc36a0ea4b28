package handlers

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	maxTemplate = 1 << 20
	maxBlocks   = 20  // in one another
	maxBranches = 100 // of one if
)

// templateParser splits a template into parts.
type templateParser struct {
	src       string
	position  Position
	at        int
	variables []string // of the loops around, the innermost last
	depth     int
}

func (p *templateParser) fail(at int, message, hint string) error {
	return &SyntaxError{Source: p.src, Offset: at, Message: message, Hint: hint}
}

func (p *templateParser) parse() ([]part, error) {
	if len(p.src) > maxTemplate {
		return nil, p.fail(0, fmt.Sprintf("longer than %d bytes", maxTemplate), "")
	}
	parts, last, err := p.list()
	if err == nil && last.word != "" {
		err = p.fail(last.open, "no block is open here", "{{ if … }} and {{ for … }} open one")
	}
	return parts, err
}

// list reads parts up to the else or end of the block around them, which it returns, or to the end of the text.
func (p *templateParser) list() (parts []part, last tag, err error) {
	for {
		from := p.at
		t, found, err := p.next()
		if err != nil {
			return nil, tag{}, err
		}
		p.at = t.end
		literal, err := p.literal(from, t)
		if err != nil {
			return nil, tag{}, err
		}
		if literal != "" {
			parts = append(parts, part{literal: literal, start: from})
		}
		if !found || t.word == "else" || t.word == "end" {
			return parts, t, nil
		}
		one, err := p.part(t)
		if err != nil {
			return nil, tag{}, err
		}
		parts = append(parts, one)
	}
}

// literal returns the text between from and a tag, as it is written.
func (p *templateParser) literal(from int, t tag) (string, error) {
	text := p.src[from:t.open]
	if t.word != "" {
		text = p.alone(from, t)
	}
	switch p.position {
	case Subject:
		text = oneLine(text)
	case Header:
		if at := controlIn(text); at >= 0 {
			return "", p.fail(from+at, errControl.Error(), "")
		}
	}
	return text, nil
}

// alone takes the line of a tag with it where nothing else stands there. It returns the text between from and the tag
// without what is taken.
func (p *templateParser) alone(from int, t tag) string {
	text := p.src[from:t.open]
	before := strings.TrimRight(text, " \t")
	after := strings.TrimLeft(p.src[t.end:], " \t\r")
	start := from + len(before)
	begins := start == 0 || p.src[start-1] == '\n'
	if !begins || after != "" && after[0] != '\n' {
		return text
	}
	p.at = min(len(p.src)-len(after)+1, len(p.src))
	return before
}

func (p *templateParser) part(t tag) (part, error) {
	switch t.word {
	case "if":
		return p.conditional(t)
	case "for":
		return p.loop(t)
	}
	one, err := p.placeholder(t.excerpt)
	one.start = t.open
	return one, err
}

// conditional reads an if up to its end.
func (p *templateParser) conditional(t tag) (part, error) {
	if err := p.enter(t); err != nil {
		return part{}, err
	}
	defer p.leave()
	return p.branch(t, t, 1)
}

// branch reads the n-th branch of the if that was opened, and what follows up to its end.
func (p *templateParser) branch(opened, t tag, n int) (part, error) {
	one := part{kind: ifPart, start: t.open}
	if t.text == "" {
		return one, p.fail(t.open, "an if without a condition", "write {{ if data.total > 1000 }}")
	}
	if n > maxBranches {
		return one, p.fail(t.open, fmt.Sprintf("more than %d branches", maxBranches), "")
	}
	var err error
	if one.when, err = compileCondition(t.text, p.visible()); err != nil {
		return one, p.inside(t.start, err)
	}
	var last tag
	if one.body, last, err = p.list(); err != nil {
		return one, err
	}
	if last.word == "else" {
		next := last.second()
		if next.word == "if" {
			other, err := p.branch(opened, next, n+1)
			one.other = []part{other}
			return one, err
		}
		if last.text != "" {
			return one, p.fail(last.start, "not what stands after else", "write {{ else }} or {{ else if … }}")
		}
		if one.other, last, err = p.list(); err != nil {
			return one, err
		}
	}
	return one, p.closed(opened, last)
}

// visible are the names of variables that a condition or a placeholder sees here.
func (p *templateParser) visible() []string {
	if len(p.variables) == 0 {
		return nil
	}
	names := slices.Clone(p.variables)
	slices.Sort(names)
	return append(slices.Compact(names), loopName)
}

var (
	loopForm = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)\s+in\s+(\S(?s:.*))$`)
	// taken are words of the language.
	taken = append([]string{"if", "for", "else", "end", "default", "true", "false", "null", loopName}, roots...)
)

const loopHelp = "write {{ for item in data.items }}"

// loop reads a for up to its end.
func (p *templateParser) loop(t tag) (part, error) {
	if err := p.enter(t); err != nil {
		return part{}, err
	}
	defer p.leave()
	m := loopForm.FindStringSubmatch(t.text)
	if m == nil {
		return part{}, p.fail(t.open, "not a loop that can be read", loopHelp)
	}
	if slices.Contains(taken, m[1]) || sqlWords[strings.ToLower(m[1])] != "" {
		return part{}, p.fail(t.start, m[1]+" means something else", "write another name, such as {{ for item in data.items }}")
	}
	one, err := p.placeholder(excerpt{m[2], t.start + len(t.text) - len(m[2])})
	if err != nil {
		return part{}, err
	}
	if one.fallback != "" {
		return part{}, p.fail(t.start+len(t.text)-len(m[2])+len(one.name), "a loop has no default", "over null it writes nothing; where the field may be missing, put {{ if … }} around it")
	}
	one.kind, one.start, one.variable = forPart, t.open, m[1]
	p.variables = append(p.variables, m[1])
	var last tag
	one.body, last, err = p.list()
	p.variables = p.variables[:len(p.variables)-1]
	switch {
	case err != nil:
		return part{}, err
	case last.word == "else":
		return part{}, p.fail(last.open, "a for has no else", "put an if around it")
	}
	return one, p.closed(t, last)
}

var blockless = map[Position]string{URL: "a URL", Form: "a form", Header: "a header", KeyPattern: "a key"}

// enter begins a block.
func (p *templateParser) enter(t tag) error {
	if place := blockless[p.position]; place != "" {
		return p.fail(t.open, "if and for have no place in "+place, "they stand in texts for people")
	}
	if p.depth++; p.depth > maxBlocks {
		return p.fail(t.open, fmt.Sprintf("more than %d blocks in one another", maxBlocks), "")
	}
	return nil
}

func (p *templateParser) leave() { p.depth-- }

// closed checks that a block ended with an end.
func (p *templateParser) closed(opened, last tag) error {
	switch {
	case last.word == "":
		return p.fail(opened.open, "this block has no end", "write {{ end }} behind it")
	case last.word == "else":
		return p.fail(last.open, "a second else", "write {{ else if … }} before {{ else }}")
	case last.text != "":
		return p.fail(last.start, "end stands alone", "write {{ end }}")
	}
	return nil
}

// inside shows an error in a condition in the template around it.
func (p *templateParser) inside(at int, err error) error {
	wrong, ok := errors.AsType[*SyntaxError](err)
	if !ok {
		return p.fail(at, err.Error(), "")
	}
	return p.fail(at+wrong.Offset, wrong.Message, wrong.Hint)
}
