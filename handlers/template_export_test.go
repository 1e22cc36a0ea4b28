package handlers

import "github.com/fraiseql/observer/event"

// RenderWithin is Render that gives up after a part of the work.
func (t *Template) RenderWithin(e *event.Event, part int) ([]byte, error) {
	return t.renderWithin(e, part)
}
