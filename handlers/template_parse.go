package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	maxTemplate = 1 << 20
	maxBlocks   = 20 // in one another
)

// templateParser splits a template into parts.
type templateParser struct {
	src       string
	position  Position
	at        int
	variables []string // of the loops around
	depth     int
}

// tag is what stands between {{ and }}.
type tag struct {
	open, end int    // in the source, braces included
	inner     string // without braces and the spaces at the ends
	start     int    // of inner
}

func (t tag) is(word string) bool {
	return t.inner == word || strings.HasPrefix(t.inner, word+" ") || strings.HasPrefix(t.inner, word+"\n") || strings.HasPrefix(t.inner, word+"\t")
}

// rest is what follows the first word.
func (t tag) rest(word string) tag {
	rest := strings.TrimSpace(t.inner[len(word):])
	return tag{open: t.open, end: t.end, inner: rest, start: t.start + strings.LastIndex(t.inner, rest)}
}

func (p *templateParser) fail(at int, message, hint string) error {
	return &SyntaxError{Source: p.src, Offset: at, Message: message, Hint: hint}
}

func (p *templateParser) parse() ([]part, error) {
	if len(p.src) > maxTemplate {
		return nil, p.fail(0, fmt.Sprintf("longer than %d bytes", maxTemplate), "")
	}
	parts, last, err := p.list()
	if err == nil && last.inner != "" {
		err = p.fail(last.open, "no block is open here", "{{ if … }} and {{ for … }} open one")
	}
	return parts, err
}

// list reads parts up to the else or end of the block around them, which it returns, or to the end of the text.
func (p *templateParser) list() (parts []part, last tag, err error) {
	for p.at < len(p.src) {
		from := p.at
		t, found, err := p.next()
		if err != nil {
			return nil, tag{}, err
		}
		literal := p.src[from:t.open]
		block := found && (t.is("if") || t.is("for") || t.is("else") || t.is("end"))
		p.at = t.end
		if block {
			literal = p.alone(literal, t)
		}
		if literal != "" {
			parts = append(parts, part{literal: literal, start: from})
		}
		var one part
		switch {
		case !found || t.is("else") || t.is("end"):
			return parts, t, nil
		case t.is("if"):
			one, err = p.conditional(t, t.rest("if"))
		case t.is("for"):
			one, err = p.loop(t)
		default:
			one, err = p.placeholder(t)
		}
		if err != nil {
			return nil, tag{}, err
		}
		parts = append(parts, one)
	}
	return parts, tag{}, nil
}

// next finds the next tag. Where there is none, the tag is the end of the text.
func (p *templateParser) next() (t tag, found bool, err error) {
	open := strings.Index(p.src[p.at:], "{{")
	if open < 0 {
		return tag{open: len(p.src), end: len(p.src)}, false, nil
	}
	open += p.at
	end := placeholderEnd(p.src, open+2)
	if end < 0 {
		return tag{}, false, p.fail(open, "this {{ has no }}", "")
	}
	inner := strings.TrimSpace(p.src[open+2 : end])
	return tag{open, end + 2, inner, open + 2 + strings.Index(p.src[open+2:end], inner)}, true, nil
}

// alone takes the line of a tag with it where nothing else stands there; literal is the text before.
func (p *templateParser) alone(literal string, t tag) string {
	start := strings.LastIndexByte(p.src[:t.open], '\n') + 1
	after := p.src[t.end:]
	line, _, more := strings.Cut(after, "\n")
	if start < t.open-len(literal) || strings.TrimSpace(p.src[start:t.open]) != "" || strings.TrimSpace(line) != "" {
		return literal
	}
	p.at += len(line)
	if more {
		p.at++
	}
	return literal[:len(literal)-(t.open-start)]
}

// conditional reads an if up to its end; head is what follows the if.
func (p *templateParser) conditional(t, head tag) (part, error) {
	one := part{kind: ifPart, start: t.open, name: "if"}
	if err := p.enter(t); err != nil {
		return one, err
	}
	defer p.leave()
	if head.inner == "" {
		return one, p.fail(t.open, "an if without a condition", "write {{ if data.total > 1000 }}")
	}
	var err error
	if one.when, err = compileCondition(head.inner, p.variables); err != nil {
		return one, p.inside(head.start, err)
	}
	one.name = "if " + head.inner
	var last tag
	if one.body, last, err = p.list(); err != nil {
		return one, err
	}
	if last.is("else") {
		next := last.rest("else")
		if next.is("if") {
			other, err := p.conditional(last, next.rest("if"))
			one.other = []part{other}
			return one, err
		}
		if next.inner != "" {
			return one, p.fail(next.start, "not what stands after else", "write {{ else }} or {{ else if … }}")
		}
		if one.other, last, err = p.list(); err != nil {
			return one, err
		}
	}
	return one, p.closed(t, last)
}

var loopForm = regexp.MustCompile(`^([a-z_][a-z0-9_]*)\s+in\s+(\S(?s:.*))$`)

// loop reads a for up to its end.
func (p *templateParser) loop(t tag) (part, error) {
	one := part{kind: forPart, start: t.open}
	if err := p.enter(t); err != nil {
		return one, err
	}
	defer p.leave()
	m := loopForm.FindStringSubmatch(t.rest("for").inner)
	if m == nil {
		return one, p.fail(t.start, "not a loop that can be read", "write {{ for item in data.items }}")
	}
	if slices.Contains(roots, m[1]) || m[1] == loopName {
		return one, p.fail(t.start, m[1]+" is taken", "write another name, such as {{ for item in data.items }}")
	}
	over, err := p.placeholder(tag{t.open, t.end, m[2], t.start + strings.LastIndex(t.inner, m[2])})
	if err != nil {
		return one, err
	}
	over.kind, over.variable = forPart, m[1]
	outer := p.variables
	p.variables = append(slices.Clip(outer), m[1], loopName)
	var last tag
	over.body, last, err = p.list()
	p.variables = outer
	if err == nil && last.is("else") {
		err = p.fail(last.open, "a for has no else", "put an if around it")
	}
	if err != nil {
		return one, err
	}
	return over, p.closed(t, last)
}

// enter begins a block.
func (p *templateParser) enter(t tag) error {
	if !p.position.blocks() && p.position != JSONBody {
		return p.fail(t.open, "if and for have no place here", "they stand in texts for people")
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
	case last.inner == "":
		return p.fail(opened.open, "this block has no {{ end }}", "")
	case last.is("else"):
		return p.fail(last.open, "a second else", "write {{ else if … }} before {{ else }}")
	case last.inner != "end":
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

// placeholderEnd returns where the "}}" is that is not inside quotes, -1 when there is none.
func placeholderEnd(src string, at int) int {
	for quote := byte(0); at < len(src); at++ {
		switch c := src[at]; {
		case quote != 0 && c == '\\':
			at++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`' || c == '\'':
			quote = c
		case strings.HasPrefix(src[at:], "}}"):
			return at
		}
	}
	return -1
}

var (
	rootForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	segmentForm = regexp.MustCompile(`^(?:\.([A-Za-z_][A-Za-z0-9_]*)|\.("(?:[^"\\]|\\.)*")|\[([0-9]{1,9})\])`)
	defaultForm = regexp.MustCompile(`^\s*\|\s*default\s+(\S(?s:.*))$`)
)

const placeholderHelp = `write {{ data.field }} or {{ data.field | default "text" }}`

func (p *templateParser) placeholder(t tag) (part, error) {
	path, rest := splitPath(t.inner)
	m := defaultForm.FindStringSubmatch(rest)
	if path == nil || rest != "" && m == nil {
		return part{}, p.fail(t.start, "not a placeholder", placeholderHelp)
	}
	one := part{kind: valuePart, name: t.inner[:len(t.inner)-len(rest)], path: path, start: t.open}
	if message := p.checkRoot(one.path); message != "" {
		return part{}, p.fail(t.start, message, placeholderHelp)
	}
	if m == nil {
		return one, nil
	}
	var err error
	if one.fallback, err = fallback(m[1]); err != nil {
		return part{}, p.fail(t.start+strings.LastIndex(t.inner, m[1]), err.Error(), placeholderHelp)
	}
	return one, nil
}

// splitPath reads a path such as data.items[0]."unit price", nil when there is none, and returns what follows.
func splitPath(s string) (path []string, rest string) {
	root := rootForm.FindString(s)
	if root == "" {
		return nil, s
	}
	path, rest = []string{root}, s[len(root):]
	for m := segmentForm.FindStringSubmatch(rest); m != nil; m = segmentForm.FindStringSubmatch(rest) {
		name := m[1] + m[3]
		if m[2] != "" && json.Unmarshal([]byte(m[2]), &name) != nil {
			return nil, s
		}
		path, rest = append(path, name), rest[len(m[0]):]
	}
	return path, rest
}

// attributes are the fields of an event.
var attributes = []string{
	"id", "event_type", "entity_type", "entity_id", "data", "before", "changes", "tenant_id", "user_id", "timestamp", "seq",
	"source", "actor_type", "schema_version",
}

func (p *templateParser) checkRoot(path []string) string {
	switch {
	case slices.Contains(p.variables, path[0]), path[0] != "event" && slices.Contains(roots, path[0]):
		return ""
	case path[0] != "event":
		return path[0] + " is none of " + strings.Join(append(slices.Clip(p.variables), roots...), ", ")
	case len(path) > 1 && !slices.Contains(attributes, path[1]):
		return fmt.Sprintf("an event has no %s, only %s", path[1], strings.Join(attributes, ", "))
	}
	return ""
}

var scalarForm = regexp.MustCompile(`^(?:true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)$`)

// fallback returns the JSON of what stands after default.
func fallback(literal string) (string, error) {
	if scalarForm.MatchString(literal) {
		return literal, nil
	}
	if literal[0] != '\'' {
		if s, err := strconv.Unquote(literal); err == nil {
			b, err := json.Marshal(s)
			return string(b), err
		}
	}
	return "", errors.New(`a default is text in double quotes, a number, true or false`)
}

// checkJSON finds out which placeholders stand inside a JSON string, and whether the template is JSON with values in
// their places: then it is JSON with any values. Blocks stand inside strings, so that no branch changes the form.
func checkJSON(src string, parts []part) error {
	c := &jsonChecker{src: src}
	if err := c.walk(parts, false); err != nil {
		return err
	}
	return c.valid()
}

type jsonChecker struct {
	src      string
	sample   strings.Builder
	places   []place // in order
	inString bool
}

// place says that the sample from there on came from src; verbatim places are equal byte for byte.
type place struct {
	sample, src int
	verbatim    bool
}

func (c *jsonChecker) walk(parts []part, block bool) error {
	for i := range parts {
		p := &parts[i]
		if p.kind == literalPart {
			if err := c.literal(p, block); err != nil {
				return err
			}
			continue
		}
		p.quoted = c.inString
		if p.kind != valuePart && !c.inString {
			return &SyntaxError{Source: c.src, Offset: p.start, Message: "in JSON, if and for stand inside a string only", Hint: "insert a list or an object as a whole: {{ data.items }}"}
		}
		c.stand(p.start)
		if p.kind == valuePart {
			continue
		}
		for _, branch := range [][]part{p.body, p.other} {
			if err := c.walk(branch, true); err != nil {
				return err
			}
			c.stand(p.start) // what follows in the text follows the other branch as well
		}
	}
	return nil
}

func (c *jsonChecker) literal(p *part, block bool) error {
	c.places = append(c.places, place{c.sample.Len(), p.start, true})
	c.sample.WriteString(p.literal)
	escaped := false
	for j := range len(p.literal) {
		switch b := p.literal[j]; {
		case escaped:
			escaped = false
		case b == '\\':
			escaped = c.inString
		case b == '"':
			if block {
				return &SyntaxError{Source: c.src, Offset: p.start + j, Message: "a block ends in the string in which it began", Hint: `write \" for a quotation mark`}
			}
			c.inString = !c.inString
		}
	}
	return nil
}

func (c *jsonChecker) stand(start int) {
	c.places = append(c.places, place{c.sample.Len(), start, false})
	c.sample.WriteString(stand[c.inString])
}

// stand is what stands for a placeholder, inside a string or outside: neither can be joined with what is around it into
// something that is valid by chance.
var stand = map[bool]string{true: "x", false: "null"}

func (c *jsonChecker) valid() error {
	var wrong *json.SyntaxError
	sample := c.sample.String()
	if !errors.As(json.Unmarshal([]byte(sample), new(any)), &wrong) {
		return nil
	}
	at := int(wrong.Offset) - 1
	if strings.HasPrefix(wrong.Error(), "unexpected end") {
		at = len(sample)
	}
	return &SyntaxError{
		Source: c.src, Offset: c.source(at),
		Message: "not JSON: " + wrong.Error(), Hint: "with values in the places of the placeholders",
	}
}

// source returns the place in src of a place in the sample.
func (c *jsonChecker) source(at int) int {
	if at >= c.sample.Len() {
		return len(c.src)
	}
	found := 0
	for _, p := range c.places {
		switch {
		case p.sample > at:
			return found
		case p.verbatim:
			found = p.src + at - p.sample
		default:
			found = p.src
		}
	}
	return found
}
