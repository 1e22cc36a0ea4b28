package handlers

import "slices"

// requirement is a text that must be at a path for a condition to hold.
type requirement struct {
	path []string // from data, before or changes on
	text string
}

// Requires returns a text that the event must have at a path, as [event.Event.Raw] finds and [event.Text] reads it, for the
// condition to hold: where it has not, Match returns false and no error. Of several it is the first in the condition. ok is
// false where none is known.
func (c *Condition) Requires() (path []string, text string, ok bool) {
	if c == nil || c.must == nil {
		return nil, "", false
	}
	return c.must.path, c.must.text, true
}

// required returns what field == text requires, nil where these are no path in the row and no text.
func required(field, text *operand) *requirement {
	if field.path == nil || field.variable || text.path != nil || text.literal.kind != kindText {
		return nil
	}
	path := field.path
	if path[0] == "event" {
		path = path[1:] // event.data is data
	}
	if len(path) == 0 || !slices.Contains(images, path[0]) {
		return nil
	}
	return &requirement{path, text.literal.text}
}
