package handlers

import (
	"errors"
	"fmt"

	"github.com/fraiseql/observer/event"
)

// Position says where the text of a template goes, and so how what it inserts is encoded.
type Position int

const (
	// Plain text is inserted as it is.
	Plain Position = iota
	// JSONBody is JSON: inside a string a placeholder becomes escaped text, elsewhere a JSON value.
	JSONBody
	// URL percent-encodes everything but letters, digits and "-._~", and refuses null.
	URL
	// Form is a body of type application/x-www-form-urlencoded: like URL, with nothing for null.
	Form
	// Header refuses control characters, line ends among them.
	Header
	// Slack escapes what Slack reads as a mention, a link or a channel.
	Slack
	// Subject is one line of text: control characters become spaces.
	Subject
	// HTML encodes for the place in the document: text, attribute, URL, style or script.
	HTML
	// KeyPattern escapes what Redis reads as a wildcard.
	KeyPattern
)

// blocks reports whether if and for may stand anywhere in the text. In JSON they may inside a string.
func (p Position) blocks() bool {
	return p == Plain || p == Slack || p == Subject || p == HTML
}

// maxAddition bounds what a template may write beyond what the event itself holds, so that a large row passes and no
// template multiplies it.
const maxAddition = 1 << 20

// Template is a compiled template: text with placeholders, and blocks where people read it.
//
//	{{ data.customer.email }}           the field; an error where there is none
//	{{ data.note | default "none" }}    a string, a number, true or false where the field is missing or null
//	{{ if data.total > 1000 }} … {{ else if … }} … {{ else }} … {{ end }}    a condition as observers have it
//	{{ for item in data.items }} … {{ item.name }} … {{ end }}    once for each element; loop.index, loop.first, loop.last
//
// A line with nothing but the tag of a block leaves no empty line. The text is rendered once: what a row holds is never
// looked at for placeholders.
type Template struct {
	position Position
	parts    []part
	size     int       // of the literals
	html     *document // of position HTML
}

type partKind int

const (
	literalPart partKind = iota
	valuePart
	ifPart
	forPart
)

// part is a literal, a placeholder or a block.
type part struct {
	kind    partKind
	start   int    // in the source
	literal string //
	// of placeholders, and of loops what they go over
	path     []string
	name     string // the path as written; of an if: "if" with its condition
	fallback string // JSON, "" when there is none
	quoted   bool   // inside a JSON string
	// of blocks
	when        *Condition // of an if
	variable    string     // of a for
	body, other []part
}

// CompileTemplate compiles a template for a place. The error is a [*SyntaxError], which never prints the template: it may
// hold a secret.
func CompileTemplate(src string, pos Position) (*Template, error) {
	p := &templateParser{src: src, position: pos}
	parts, err := p.parse()
	if err != nil {
		return nil, err
	}
	t := &Template{position: pos, parts: parts}
	for _, p := range parts {
		t.size += len(p.literal)
	}
	switch pos {
	case JSONBody:
		err = checkJSON(src, parts)
	case HTML:
		t.html, err = compileHTML(src, parts)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Static reports whether the template holds nothing but text.
func (t *Template) Static() bool {
	return len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].kind == literalPart
}

// Render fills the template from an event. Its errors are permanent: the same event would fail again.
func (t *Template) Render(e *event.Event) ([]byte, error) {
	r := renderer{template: t, event: e, limit: maxAddition + len(e.Data) + len(e.Before) + len(e.Changes)}
	r.out = make([]byte, 0, t.size+256)
	err := r.run()
	if err != nil {
		return nil, event.Permanent(event.WithClass(err, "template"))
	}
	return r.out, nil
}

// renderer is one rendering of a template.
type renderer struct {
	template  *Template
	event     *event.Event
	out       []byte
	limit     int
	variables *variable
}

// variable is what a loop stands at, or where in the loop that is; the innermost comes first.
type variable struct {
	name, raw string
	outer     *variable
}

func (r *renderer) run() error {
	if r.template.html != nil {
		return r.runHTML()
	}
	return r.write(r.template.parts)
}

func (r *renderer) write(parts []part) error {
	for i := range parts {
		p := &parts[i]
		switch p.kind {
		case literalPart:
			r.out = append(r.out, p.literal...)
		case valuePart:
			if err := r.insert(p); err != nil {
				return renderError(p, err)
			}
		case ifPart:
			yes, err := r.holds(p)
			if err != nil {
				return renderError(p, err)
			}
			body := p.body
			if !yes {
				body = p.other
			}
			if err := r.write(body); err != nil {
				return err
			}
		case forPart:
			if err := r.repeat(p); err != nil {
				return err
			}
		}
		if len(r.out) > r.limit {
			return r.tooLong()
		}
	}
	return nil
}

func renderError(p *part, err error) error { return fmt.Errorf("render %s: %w", p.name, err) }

func (r *renderer) tooLong() error {
	return fmt.Errorf("render template: its text is longer than %d bytes", r.limit)
}

func (r *renderer) repeat(p *part) error {
	items, err := r.items(p)
	if err != nil {
		return renderError(p, err)
	}
	for i := range items {
		r.enter(p, items, i)
		err := r.write(p.body)
		r.leave()
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	errMissing = errors.New(`no such field in this event (give it a default: {{ field | default "text" }})`)
	errNull    = errors.New(`null in a URL would lead elsewhere (give it a default: {{ field | default "text" }})`)
	errControl = errors.New("a header cannot hold control characters")
	errNoList  = errors.New("is no list")
)

func (r *renderer) insert(p *part) error {
	raw, err := r.value(p)
	if err == nil {
		r.out, err = r.template.encode(r.out, raw, p.quoted)
	}
	return err
}

// value returns the JSON of a placeholder.
func (r *renderer) value(p *part) (string, error) {
	raw, ok := r.find(p.path)
	switch {
	case ok && raw != "null":
		return raw, nil
	case p.fallback != "":
		return p.fallback, nil
	case !ok:
		return "", errMissing
	}
	return raw, nil
}

func (r *renderer) find(path []string) (string, bool) {
	for v := r.variables; v != nil; v = v.outer {
		if v.name == path[0] {
			return event.Within(v.raw, path[1:])
		}
	}
	return r.event.Raw(path...)
}
