package handlers

import (
	"encoding/json"
	"errors"
	"strings"
)

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
	sample   sample
	inString bool
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

// literal copies a literal, and finds out whether it ends inside a string.
func (c *jsonChecker) literal(p *part, block bool) error {
	c.sample.copy(p.literal, p.start)
	escaped := false
	for i := range len(p.literal) {
		switch b := p.literal[i]; {
		case escaped:
			escaped = false
		case b == '\\':
			escaped = c.inString
		case b == '"' && block:
			return &SyntaxError{Source: c.src, Offset: p.start + i, Message: "a block ends in the string in which it began", Hint: `write \" for a quotation mark`}
		case b == '"':
			c.inString = !c.inString
		}
	}
	return nil
}

// stand adds what stands for a value, inside a string or outside: neither can be joined with what is around it into
// something that is valid by chance.
func (c *jsonChecker) stand(start int) {
	text := "null"
	if c.inString {
		text = "x"
	}
	c.sample.replace(text, start)
}

func (c *jsonChecker) valid() error {
	text := c.sample.String()
	var wrong *json.SyntaxError
	if !errors.As(json.Unmarshal([]byte(text), new(json.RawMessage)), &wrong) {
		return nil
	}
	at := len(c.src)
	if !strings.HasPrefix(wrong.Error(), "unexpected end") {
		at = c.sample.pieces.source(int(wrong.Offset) - 1)
	}
	return &SyntaxError{
		Source: c.src, Offset: at, Message: "not JSON: " + wrong.Error(), Hint: "with values in the places of the placeholders",
	}
}
