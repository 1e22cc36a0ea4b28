package window

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Item is one fetched message and what its driver needs to settle it.
type Item struct {
	Msg *message.Message
	Raw any
}

// Driver is what a transport implements to be read through a [Subscriber]. The subscriber calls Fetch from one goroutine,
// and Ack, Nack and Close from another; a driver must allow Fetch to run beside them.
type Driver interface {
	// Fetch blocks until at least one item is there, and returns at most limit items. It returns an error that wraps
	// ctx.Err() when ctx ends. Any other error is logged and Fetch is called again after a pause, unless it is marked
	// with [Fatal].
	//
	// A driver that has decoded the event already attaches it to the message's context with event.WithEvent.
	Fetch(ctx context.Context, limit int) ([]Item, error)

	// Ack settles items, in any order relative to Fetch. It may return before that is durable, if Close makes it so.
	Ack(ctx context.Context, items []Item) error

	// Nack gives an item back: the driver offers it again after delay, or to the next process.
	Nack(ctx context.Context, item Item, delay time.Duration) error

	// Close makes every Ack durable and frees what the driver opened, never what it was given.
	Close(ctx context.Context) error
}
