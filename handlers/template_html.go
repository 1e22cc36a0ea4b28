package handlers

import (
	"errors"
	htmltemplate "html/template"
	"io"
	"iter"
	"regexp"
	"strconv"
	"strings"
)

// document is a template for html/template, which knows what each place in a document needs. It is made from ours: its
// places ask the renderer for what goes there, by number.
type document struct {
	template *htmltemplate.Template
	parts    []*part
	comments []htmltemplate.HTML // html/template drops them, and mail programs read some
}

func compileHTML(src string, parts []part) (*document, error) {
	d := &document{}
	var b strings.Builder
	d.translate(&b, parts)
	var err error
	d.template, err = htmltemplate.New("html").Parse(b.String())
	if err == nil {
		err = d.template.Execute(io.Discard, &page{document: d}) // finds out what each place needs
	}
	if wrong := (*htmltemplate.Error)(nil); errors.As(err, &wrong) {
		return nil, &SyntaxError{Source: src, Message: "not HTML that values can stand in: " + wrong.Description}
	}
	if err != nil {
		return nil, &SyntaxError{Source: src, Message: "not HTML that values can stand in: " + err.Error()}
	}
	return d, nil
}

var comment = regexp.MustCompile(`(?s)<!--.*?-->`)

func (d *document) translate(b *strings.Builder, parts []part) {
	for i := range parts {
		p := &parts[i]
		n := strconv.Itoa(len(d.parts))
		if p.kind != literalPart {
			d.parts = append(d.parts, p)
		}
		switch p.kind {
		case literalPart:
			b.WriteString(comment.ReplaceAllStringFunc(p.literal, func(text string) string {
				d.comments = append(d.comments, htmltemplate.HTML(text)) //nolint:gosec // the operator's own text
				return "{{ $.Comment " + strconv.Itoa(len(d.comments)-1) + " }}"
			}))
		case valuePart:
			b.WriteString("{{ $.Value " + n + " }}")
		case ifPart:
			b.WriteString("{{ if $.Holds " + n + " }}")
			d.translate(b, p.body)
			b.WriteString("{{ else }}")
			d.translate(b, p.other)
			b.WriteString("{{ end }}")
		case forPart:
			b.WriteString("{{ range $.Each " + n + " }}")
			d.translate(b, p.body)
			b.WriteString("{{ end }}")
		}
	}
}

// page is one rendering of a document. Without a renderer everything in it is empty.
type page struct {
	*document
	renderer *renderer
	failed   error
}

var errPage = errors.New("stop rendering")

func (r *renderer) runHTML() error {
	p := &page{document: r.template.html, renderer: r}
	err := p.template.Execute(p, p)
	if p.failed != nil {
		return p.failed
	}
	return err
}

// Write implements io.Writer.
func (p *page) Write(b []byte) (int, error) {
	r := p.renderer
	if len(r.out)+len(b) > r.limit {
		return 0, p.fail(r.tooLong())
	}
	r.out = append(r.out, b...)
	return len(b), nil
}

// fail ends the rendering with an error, which html/template would hide among words of its own.
func (p *page) fail(err error) error {
	p.failed = err
	return errPage
}

// Comment returns a comment of the template.
func (p *page) Comment(n int) htmltemplate.HTML { return p.comments[n] }

// Value returns what a placeholder stands for.
func (p *page) Value(n int) (string, error) {
	if p.renderer == nil {
		return "", nil
	}
	raw, err := p.renderer.value(p.parts[n])
	if err != nil {
		return "", p.fail(renderError(p.parts[n], err))
	}
	return text(raw), nil
}

// Holds evaluates the condition of a block.
func (p *page) Holds(n int) (bool, error) {
	if p.renderer == nil {
		return false, nil
	}
	yes, err := p.renderer.holds(p.parts[n])
	if err != nil {
		return false, p.fail(renderError(p.parts[n], err))
	}
	return yes, nil
}

// Each goes over the elements of a loop.
func (p *page) Each(n int) (iter.Seq[int], error) {
	if p.renderer == nil {
		return func(func(int) bool) {}, nil
	}
	items, err := p.renderer.items(p.parts[n])
	if err != nil {
		return nil, p.fail(renderError(p.parts[n], err))
	}
	return func(yield func(int) bool) {
		for i := range items {
			p.renderer.enter(p.parts[n], items, i)
			more := yield(i)
			p.renderer.leave()
			if !more {
				return
			}
		}
	}, nil
}
