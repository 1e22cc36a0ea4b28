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
	// Subject is one line of text: control characters become spaces, those of the template as well.
	Subject
	// HTML encodes for the place in the document: text, attribute, URL, style or script.
	HTML
	// KeyPattern escapes what Redis reads as a wildcard, and refuses null and empty text, which would reach other keys.
	KeyPattern
)

const (
	// maxAddition bounds what a template may write beyond what the event itself holds, so that a large row passes and no
	// template multiplies it.
	maxAddition = 1 << 20
	// maxWork bounds what rendering costs, since a loop in a loop may write nothing: some 60 milliseconds. It grows with the event.
	maxWork = 1 << 26
)

// Template is a compiled template: text with placeholders, and blocks where people read it.
//
//	{{ data.customer.email }}           the field; an error where there is none
//	{{ data.note | default "none" }}    text, a number, true or false where the field is missing or null
//	{{ data.items[0]."unit price" }}    an element of a list, from 0; a name that is no word
//	{{ if data.total > 1000 }} … {{ else if … }} … {{ else }} … {{ end }}    a condition as observers have it
//	{{ for item in data.items }} … {{ item.name }} … {{ end }}    once for each element; loop.index, loop.first, loop.last
//
// A line with nothing but the tag of a block leaves no empty line. The text is rendered once: what a row holds is never
// looked at for placeholders.
type Template struct {
	source   string
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
	kind     partKind
	start    int        // in the source
	name     string     // of a placeholder or a for: the path as written
	literal  string     //
	path     []string   // of a placeholder; of a for, what it goes over
	fallback string     // of a placeholder: JSON, "" when there is none
	quoted   bool       // of a placeholder: inside a JSON string
	when     *Condition // of an if
	variable string     // of a for
	body     []part     // of a block
	other    []part     // of an if: what is written where it does not hold
}

// CompileTemplate compiles a template for a place. The error is a [*SyntaxError], which never prints the template: it may
// hold a secret.
func CompileTemplate(src string, pos Position) (*Template, error) {
	p := &templateParser{src: src, position: pos}
	parts, err := p.parse()
	if err != nil {
		return nil, err
	}
	t := &Template{source: src, position: pos, parts: parts}
	switch pos {
	case JSONBody:
		err = checkJSON(src, parts)
	case HTML:
		t.html, err = compileHTML(src, parts)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		t.size += len(p.literal)
	}
	return t, nil
}

// Static reports whether the template holds nothing but text.
func (t *Template) Static() bool {
	return len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].kind == literalPart
}

// Render fills the template from an event. Its errors are permanent: the same event would fail again.
func (t *Template) Render(e *event.Event) ([]byte, error) { return t.renderWithin(e, 1) }

// renderWithin is Render with a part of the work that it may cost.
func (t *Template) renderWithin(e *event.Event, part int) ([]byte, error) {
	size := len(e.Data) + len(e.Before) + len(e.Changes)
	r := renderer{template: t, event: e, limit: maxAddition + size, work: (maxWork + 100*size) / part}
	r.out = make([]byte, 0, t.size+256)
	var err error
	if t.html != nil {
		err = r.writeHTML()
	} else {
		err = r.write(t.parts)
	}
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
	limit     int // of out
	work      int // that is left: about as many nanoseconds
	variables *variable
}

var (
	errMissing = errors.New(`no such field in this event (give it a default: {{ field | default "text" }})`)
	errNull    = errors.New(`null in a URL would lead elsewhere (give it a default: {{ field | default "text" }})`)
	errEmpty   = errors.New(`null or empty text in a key would reach other keys (give it a default: {{ field | default "text" }})`)
	errControl = errors.New("a header cannot hold control characters")
	errWork    = errors.New("render template: its loops go on for too long (go over a shorter list, or fewer lists in one another)")
)

// fail says in which part rendering failed. Of an if it tells the place: its condition may be long, or hold a secret.
func (r *renderer) fail(p *part, err error) error {
	if p.kind != ifPart {
		return fmt.Errorf("render %s: %w", p.name, err)
	}
	line, column := (&SyntaxError{Source: r.template.source, Offset: p.start}).Position()
	return fmt.Errorf("render if in line %d, column %d: %w", line, column, err)
}

func (r *renderer) write(parts []part) error {
	for i := range parts {
		var err error
		switch p := &parts[i]; p.kind {
		case literalPart:
			r.out = append(r.out, p.literal...)
		case valuePart:
			err = r.insert(p)
		case ifPart:
			err = r.choose(p)
		case forPart:
			err = r.each(p, func() error { return r.write(p.body) })
		}
		if err != nil {
			return err
		}
		if len(r.out) > r.limit {
			return r.tooLong()
		}
	}
	return nil
}

func (r *renderer) tooLong() error {
	return fmt.Errorf("render template: its text is longer than %d bytes", r.limit)
}

func (r *renderer) insert(p *part) error {
	raw, err := r.value(p)
	if err != nil {
		return err
	}
	if r.out, err = r.template.encode(r.out, raw, p.quoted); err != nil {
		return r.fail(p, err)
	}
	return nil
}

// value returns the JSON of a placeholder.
func (r *renderer) value(p *part) (string, error) {
	raw, ok := r.find(p.path)
	switch {
	case r.work < 0:
		return "", errWork
	case ok && raw != "null":
		return raw, nil
	case p.fallback != "":
		return p.fallback, nil
	case !ok:
		return "", r.fail(p, errMissing)
	}
	return raw, nil
}

// find returns the JSON at a path, and counts what it reads for that.
func (r *renderer) find(path []string) (raw string, ok bool) {
	raw, rest, ok := r.head(path)
	r.work -= lookupWork
	if ok && len(rest) > 0 {
		r.work -= len(raw)
		return event.Within(raw, rest)
	}
	return raw, ok
}

// head returns the JSON of the variable or of the field of a row that a path begins with, and the rest of the path.
func (r *renderer) head(path []string) (raw string, rest []string, ok bool) {
	if r.variables != nil {
		if raw, ok := r.variables.find(path[0]); ok {
			return raw, path[1:], true
		}
	}
	n := min(len(path), 2)
	raw, ok = r.event.Raw(path[:n]...)
	return raw, path[n:], ok
}
