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
)

// maxAddition bounds what a template may write beyond what the event itself holds, so that a large row passes and no
// template multiplies it.
const maxAddition = 1 << 20

// Template is a compiled template: text with placeholders.
//
//	{{ data.customer.email }}           the field; an error where there is none
//	{{ data.note | default "none" }}    a string, a number, true or false where the field is missing or null
//
// The text is rendered once: what a row holds is never looked at for placeholders.
type Template struct {
	position Position
	parts    []part
	size     int // of the literals
}

// part is a literal, or a placeholder when path is set.
type part struct {
	literal  string
	path     []string
	name     string // the path as written
	start    int    // in the source
	fallback string // JSON, "" when there is none
	quoted   bool   // inside a JSON string
}

// CompileTemplate compiles a template for a place. The error is a [*SyntaxError], which never prints the template: it may
// hold a secret.
func CompileTemplate(src string, pos Position) (*Template, error) {
	parts, err := parseTemplate(src)
	if err != nil {
		return nil, err
	}
	t := &Template{position: pos, parts: parts}
	for _, p := range parts {
		t.size += len(p.literal)
	}
	if pos == JSONBody {
		if err := checkJSON(src, parts); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Static reports whether the template holds no placeholder.
func (t *Template) Static() bool {
	return len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].path == nil
}

// Render fills the template from an event. Its errors are permanent: the same event would fail again.
func (t *Template) Render(e *event.Event) ([]byte, error) {
	limit := maxAddition + len(e.Data) + len(e.Before) + len(e.Changes)
	b := make([]byte, 0, t.size+256)
	for i := range t.parts {
		p := &t.parts[i]
		if p.path == nil {
			b = append(b, p.literal...)
			continue
		}
		var err error
		if b, err = t.insert(b, p, e); err != nil {
			return nil, event.Permanent(event.WithClass(fmt.Errorf("render %s: %w", p.name, err), "template"))
		}
		if len(b) > limit {
			err := fmt.Errorf("render template: its text is longer than %d bytes", limit)
			return nil, event.Permanent(event.WithClass(err, "template"))
		}
	}
	return b, nil
}

var (
	errMissing = errors.New(`no such field in this event (give it a default: {{ field | default "text" }})`)
	errNull    = errors.New(`null in a URL would lead elsewhere (give it a default: {{ field | default "text" }})`)
	errControl = errors.New("a header cannot hold control characters")
)

func (t *Template) insert(b []byte, p *part, e *event.Event) ([]byte, error) {
	raw, ok := e.Raw(p.path...)
	switch {
	case ok && raw != "null":
	case p.fallback != "":
		raw = p.fallback
	case !ok:
		return nil, errMissing
	}
	return t.encode(b, raw, p.quoted)
}
