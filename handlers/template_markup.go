package handlers

import (
	"regexp"
	"strings"
)

// markup follows a document as far as it takes to know where comments stand, and what has no end.
type markup struct {
	in    markupState
	name  string // of the element, in a tag and in what is no markup
	quote byte   // around the value of an attribute, 0 outside
	since int    // in the source

	conditional bool // inside a conditional comment that holds placeholders
}

type markupState int

const (
	inText    markupState = iota
	inTag                 // <a …
	inRaw                 // of an element whose content is no markup
	inComment             // that holds placeholders: html/template drops it
)

// rawElements are those whose content is no markup.
var rawElements = map[string]bool{"script": true, "style": true, "textarea": true, "title": true}

var (
	tagName = regexp.MustCompile(`^</?([A-Za-z][^\s/>]*)`)
	// Of a conditional comment that holds placeholders, what opens and closes it is a comment, and what is between is not:
	// some mail programs read it.
	conditional = regexp.MustCompile(`(?i)^<!--\[if [^\]<>]*\]>`)
	declaration = regexp.MustCompile(`^<[!?][^<>]*>`) // which browsers take for a comment, but for the type of the document
	doctype     = regexp.MustCompile(`(?i)^<!doctype\s`)
)

// piece is what markup finds.
type markupPiece int

const (
	plainMarkup markupPiece = iota
	aComment
	strayAngle // a < that begins nothing
)

// next returns how long the next piece of text is, and what it is. The text starts at a place in the source.
func (m *markup) next(text string, at int) (n int, what markupPiece) {
	switch m.in {
	case inTag:
		return m.tag(text), plainMarkup
	case inRaw:
		return m.raw(text), plainMarkup
	case inComment:
		if end := strings.Index(text, "-->"); end >= 0 {
			m.in = inText
			return end + len("-->"), plainMarkup
		}
		return len(text), plainMarkup
	}
	switch open := strings.IndexByte(text, '<'); {
	case open < 0:
		return len(text), plainMarkup
	case open > 0:
		return open, plainMarkup
	case strings.HasPrefix(text, "<!--"):
		m.since = at
		return m.comment(text)
	}
	if found := tagName.FindStringSubmatch(text); found != nil {
		m.in, m.name, m.quote, m.since = inTag, strings.ToLower(found[1]), 0, at
		if text[1] == '/' {
			m.name = ""
		}
		return len(found[0]), plainMarkup
	}
	if n := len(doctype.FindString(text)); n > 0 {
		return n, plainMarkup
	}
	if found := declaration.FindString(text); found != "" {
		m.conditional = m.conditional && !strings.HasSuffix(found, "-->")
		return len(found), aComment
	}
	return 1, strayAngle
}

// comment reads what begins with <!--.
func (m *markup) comment(text string) (n int, what markupPiece) {
	if end := strings.Index(text, "-->"); end >= 0 {
		return end + len("-->"), aComment
	}
	if n := len(conditional.FindString(text)); n > 0 {
		m.conditional = true
		return n, aComment
	}
	m.in = inComment
	return len(text), plainMarkup
}

// tag reads up to the > that ends a tag.
func (m *markup) tag(text string) int {
	for i := range len(text) {
		switch c := text[i]; {
		case m.quote != 0:
			if c == m.quote {
				m.quote = 0
			}
		case c == '"' || c == '\'':
			m.quote = c
		case c == '>':
			m.in = inText
			if rawElements[m.name] {
				m.in = inRaw
			}
			return i + 1
		}
	}
	return len(text)
}

// raw reads up to the tag that ends an element without markup.
func (m *markup) raw(text string) int {
	for at := 0; ; at++ {
		open := strings.Index(text[at:], "</")
		if open < 0 {
			return len(text)
		}
		at += open
		if name := tagName.FindStringSubmatch(text[at:]); name != nil && strings.EqualFold(name[1], m.name) {
			m.in = inText
			return at
		}
	}
}
