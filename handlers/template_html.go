package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"iter"
	"regexp"
	"strconv"
)

// document is a template for html/template, which knows what each place in a document needs. It is made from ours: its
// places ask the renderer for what goes there, by number.
type document struct {
	template *htmltemplate.Template
	parts    []*part
	comments []htmltemplate.HTML // html/template drops them, and mail programs read some
}

// What actions stand between: not {{, since a text that ends with { may come before it. No text of ours holds {{#.
const openAction, closeAction = "{{#", "}}"

// newDocument makes a document, and returns the text that it is made from. The error is one of html/template.
func newDocument(parts []part) (d *document, s *documentSample, err error) {
	d = &document{}
	s = &documentSample{document: d}
	s.add(parts)
	d.template, err = htmltemplate.New("html").Delims(openAction, closeAction).Parse(s.String())
	if err == nil {
		err = d.template.Execute(io.Discard, &page{document: d}) // finds out what each place needs
	}
	return d, s, err
}

// documentSample is the text of a document.
type documentSample struct {
	sample
	*document
	markup markup
	// A value may be --, and with what follows end a conditional comment.
	behindValue bool
	endsComment *part // where it would
}

func (s *documentSample) add(parts []part) {
	for i := range parts {
		p := &parts[i]
		if p.kind == literalPart {
			s.literal(p)
			continue
		}
		n := len(s.parts)
		s.parts = append(s.parts, p)
		switch p.kind {
		case valuePart:
			s.action(p, "$.Value", n)
			s.behindValue = true
		case ifPart:
			s.action(p, "if $.Holds", n)
			before, behindValue := s.markup, s.behindValue
			s.add(p.body)
			s.replace(openAction+" else "+closeAction, p.start)
			s.markup, behindValue, s.behindValue = before, s.behindValue, behindValue
			s.add(p.other)
			s.behindValue = s.behindValue || behindValue
			s.end(p)
		case forPart:
			s.action(p, "range $.Each", n)
			s.behindValue = true // its own end is before its beginning
			s.add(p.body)
			s.behindValue = true
			s.end(p)
		}
	}
}

func (s *documentSample) action(p *part, text string, n int) {
	s.replace(openAction+" "+text+" "+strconv.Itoa(n)+" "+closeAction, p.start)
}

func (s *documentSample) end(p *part) { s.replace(openAction+" end "+closeAction, p.start) }

var commentEnd = regexp.MustCompile(`^-*!?>`)

// literal copies text, with its comments as actions.
func (s *documentSample) literal(p *part) {
	if s.markup.conditional && s.behindValue && s.endsComment == nil && commentEnd.MatchString(p.literal) {
		s.endsComment = p
	}
	s.behindValue = false
	for at := 0; at < len(p.literal); {
		n, what := s.markup.next(p.literal[at:], p.start+at)
		text := p.literal[at : at+n]
		switch what {
		case aComment:
			s.action(&part{start: p.start + at}, "$.Comment", len(s.comments))
			s.comments = append(s.comments, htmltemplate.HTML(text)) //nolint:gosec // the operator's own text
		case strayAngle:
			s.replace("&lt;", p.start+at)
		default:
			s.copy(text, p.start+at)
		}
		at += n
	}
}

// page is one rendering of a document. Without a renderer everything in it is empty.
type page struct {
	*document
	renderer *renderer
	failed   error
}

var errPage = errors.New("stop rendering")

func (r *renderer) writeHTML() error {
	p := &page{document: r.template.html, renderer: r}
	err := p.template.Execute(p, p)
	if p.failed != nil {
		return p.failed
	}
	if err != nil {
		return fmt.Errorf("render template: %w", err)
	}
	return nil
}

// Write implements io.Writer.
func (p *page) Write(b []byte) (int, error) {
	r := p.renderer
	if r == nil {
		return len(b), nil
	}
	if len(r.out)+len(b) > r.limit {
		return 0, p.fail(r.tooLong())
	}
	r.out = append(r.out, b...)
	return len(b), nil
}

// fail ends the rendering with an error, which html/template would hide among words of its own.
func (p *page) fail(err error) error {
	if p.failed == nil {
		p.failed = err
	}
	return errPage
}

// Comment returns a comment of the template.
func (p *page) Comment(n int) htmltemplate.HTML { return p.comments[n] }

// htmlValue is the JSON of a value. It is text everywhere but in a script, where it is a value.
type htmlValue string

var (
	_ fmt.Stringer   = htmlValue("")
	_ json.Marshaler = htmlValue("")
)

func (v htmlValue) String() string { return text(string(v)) }

// MarshalJSON implements [json.Marshaler].
func (v htmlValue) MarshalJSON() ([]byte, error) { return []byte(v), nil }

// work counts a step of the rendering. There is nothing to do without a renderer, and after a failure.
func (p *page) work() (idle bool, err error) {
	if p.failed != nil {
		return true, errPage
	}
	if p.renderer != nil {
		p.renderer.work -= pageWork
	}
	return p.renderer == nil, nil
}

// Value returns what a placeholder stands for.
func (p *page) Value(n int) (htmlValue, error) {
	if idle, err := p.work(); idle {
		return `""`, err
	}
	raw, err := p.renderer.value(p.parts[n])
	if err != nil {
		return "", p.fail(err)
	}
	return htmlValue(raw), nil
}

// Holds evaluates the condition of a block.
func (p *page) Holds(n int) (bool, error) {
	if idle, err := p.work(); idle {
		return false, err
	}
	yes, err := p.renderer.holds(p.parts[n])
	if err != nil {
		return false, p.fail(err)
	}
	return yes, nil
}

// Each goes over the elements of a loop.
func (p *page) Each(n int) (iter.Seq[int], error) {
	idle, err := p.work()
	return func(yield func(int) bool) {
		if idle {
			return
		}
		err := p.renderer.each(p.parts[n], func() error {
			if idle, _ := p.work(); idle || !yield(n) {
				return errPage
			}
			return nil
		})
		if err != nil {
			_ = p.fail(err) // what follows asks whether there was one
		}
	}, err
}
