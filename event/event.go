package event

import (
	"context"
	"encoding/json"
	"time"
)

// Type says what happened to the entity.
type Type string

// The four types of event. Custom events are the ones that an application publishes itself.
const (
	Insert Type = "INSERT"
	Update Type = "UPDATE"
	Delete Type = "DELETE"
	Custom Type = "CUSTOM"
)

// Types lists every [Type].
func Types() []Type { return []Type{Insert, Update, Delete, Custom} }

// Valid reports whether t is one of the four types.
func (t Type) Valid() bool {
	switch t {
	case Insert, Update, Delete, Custom:
		return true
	}
	return false
}

// Event is one committed change of one entity. It is immutable once built: deliveries in many goroutines share it.
//
// Data, Before and Changes hold raw JSON, so that numbers keep all their digits; nil stands for null.
type Event struct {
	ID            string          // uuid of the change-log row: the same on every path and every redelivery
	Type          Type            //
	Entity        string          // such as "Order"
	EntityID      string          // primary key as text, "" when there is none
	Data          json.RawMessage // after-image; the before-image for a DELETE
	Before        json.RawMessage // nil when not captured
	Changes       json.RawMessage // {field: {"old", "new"}}; nil when unknown
	TenantID      string
	UserID        string
	Timestamp     time.Time // when the change was made
	Seq           int64
	Source        string // database or producer name
	ActorType     string
	SchemaVersion int
	Trace         TraceContext // in which the change was made: trace.go

	views views // what was decoded of it so far: view.go
}

// Key names the entity that the event is about. Events with one key are delivered in commit order.
func (e *Event) Key() string { return e.Entity + "\x1f" + e.EntityID }

type eventKey struct{}

// WithEvent returns a copy of ctx that carries a decoded event, so that no reader of the message decodes it again.
func WithEvent(ctx context.Context, e *Event) context.Context {
	return context.WithValue(ctx, eventKey{}, e)
}

// OfContext returns the event that ctx carries, nil when it carries none.
func OfContext(ctx context.Context) *Event {
	e, _ := ctx.Value(eventKey{}).(*Event)
	return e
}
