package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/memory"
)

// What no further attempt can mend is stored with its event and its attempts. A store that lasts is in pipeline/postgres.
func ExampleDeadLetter() {
	store := &memory.DeadLetters{}
	bury := middleware.DeadLetter(store, middleware.FailureDLQ, slog.New(slog.DiscardHandler))
	handler := bury(middleware.Attempts(func(*message.Message) ([]*message.Message, error) {
		return nil, event.Permanent(errors.New("the order has no address"))
	}))

	d := &event.Delivery{Event: &event.Event{ID: "1", Type: event.Insert, Entity: "Order"}, Observer: "shipping", Action: "label"}
	_, err := handler(message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, nil))
	fmt.Println(err)
	for _, dead := range store.List() {
		fmt.Println(dead.ID(), "-", dead.Attempts[0].Error)
	}
	// Output:
	// dead-lettered
	// 1_shipping_label - the order has no address
}
