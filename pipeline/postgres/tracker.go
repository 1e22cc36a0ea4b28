package postgres

import (
	"slices"

	"github.com/fraiseql/observer/pipeline/window"
)

// tracker is the window.Tracker of one row that was handed out.
type tracker struct {
	r *Reader
	e *entry
}

var _ window.Tracker = tracker{}

func (t tracker) Start() {
	t.e.begun.Store(true)
	t.r.touch()
}

// Done notes a part in a new list: an image that is being stored holds the old one.
func (t tracker) Done(part string) {
	t.r.mu.Lock()
	t.e.done = append(slices.Clip(t.e.done), part)
	t.r.mu.Unlock()
	t.r.touch()
}

// WasDone needs no lock: parts of one hand-out settle after its caller has asked for all of them.
func (t tracker) WasDone(part string) bool { return slices.Contains(t.e.done, part) }
