package middleware_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// What failed stands in the delivery of the message's context, for those outside: here the class that the handler gave.
func ExampleAttempts() {
	handler := middleware.Attempts(func(*message.Message) ([]*message.Message, error) {
		return nil, event.WithClass(errors.New("no paper"), "printer")
	})
	d := &event.Delivery{Event: &event.Event{ID: "1", Type: event.Insert, Entity: "Order"}, Observer: "shipping", Action: "label"}
	msg := message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, nil)
	for range 2 {
		if _, err := handler(msg); err == nil {
			fmt.Println("printed")
		}
	}
	for _, a := range event.FromContext(msg.Context()).Attempts {
		fmt.Printf("%s: %s\n", a.Class, a.Error)
	}
	// Output:
	// printer: no paper
	// printer: no paper
}
