package middleware

import (
	"context"
	"time"

	"github.com/fraiseql/observer/event"
)

// RetryQueue keeps deliveries that wait for their next attempt. The transport's own queue feeds them back when due.
type RetryQueue interface {
	// Park stores d until notBefore and is durable when it returns nil. There is one entry a delivery: parking it again
	// replaces attempts, lane and due time, and leaves it its place in the lane. Of the entries that share observer, action
	// and a lane that is not "", only the first is ever fed back. An error that is marked event.Permanent says that the queue can never hold d.
	Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error
}

// DeadLetters keeps deliveries that failed for good.
type DeadLetters interface {
	// Put stores d with all its attempts and is durable when it returns nil. A delivery that is there already is
	// updated, never doubled. A delivery with an empty Observer stands for the whole event (it could not be read, or it
	// killed the process each time); the last attempt says why.
	Put(ctx context.Context, d *event.Delivery) error
}

// ResultStore remembers what succeeded lately.
type ResultStore interface {
	// Has reports whether key was put and its time is not over.
	Has(ctx context.Context, key string) (bool, error)
	// Put remembers key for ttl from now.
	Put(ctx context.Context, key string, ttl time.Duration) error
}
