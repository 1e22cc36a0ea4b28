package window

import "context"

// Tracker is told how the handling of its message goes, for what a crash of the process leaves. Its methods may be called
// from many goroutines.
type Tracker interface {
	// Start says that handling begins: until then a crash cannot be the message's doing.
	Start()
	// Done says that a part has settled while others of the same message have not: the part need not run again, whatever
	// happens to the others.
	Done(part string)
	// WasDone reports whether a part had settled already, perhaps in a process before this one.
	WasDone(part string) bool
}

type trackerKey struct{}

// WithTracker returns a copy of a message's context that carries its tracker.
func WithTracker(ctx context.Context, t Tracker) context.Context {
	return context.WithValue(ctx, trackerKey{}, t)
}

// TrackerOf returns the tracker of a message by the message's context; one that forgets everything where there is none.
func TrackerOf(ctx context.Context) Tracker {
	if t, ok := ctx.Value(trackerKey{}).(Tracker); ok {
		return t
	}
	return untracked{}
}

type untracked struct{}

func (untracked) Start()              {}
func (untracked) Done(string)         {}
func (untracked) WasDone(string) bool { return false }
