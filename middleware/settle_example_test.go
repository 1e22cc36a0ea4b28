package middleware_test

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// A router acks where the handler returns nil and nacks where it returns an error. Settle makes nil of what is stored
// elsewhere, so that it does not come again.
func ExampleSettle() {
	for _, outcome := range []error{nil, event.ErrParked, event.ErrDeadLettered, errors.New("the store is away")} {
		handler := middleware.Settle(slog.New(slog.DiscardHandler))(func(*message.Message) ([]*message.Message, error) {
			return nil, outcome
		})
		_, err := handler(message.NewMessage("1", nil))
		fmt.Printf("%v: ack %t\n", outcome, err == nil)
	}
	// Output:
	// <nil>: ack true
	// parked: ack true
	// dead-lettered: ack true
	// the store is away: ack false
}
