package middleware_test

import (
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// All handlers that reach one server share its Endpoint. After ten failures in a row they leave it alone for a while, and
// say when to come again: Retry parks for so long, and counts no attempt.
func ExampleBreaker() {
	server := middleware.NewEndpoint("labels.example.com", func(open bool) { fmt.Println("open:", open) })
	calls := 0
	handler := middleware.Breaker(server)(func(*message.Message) ([]*message.Message, error) {
		calls++
		return nil, errors.New("connection refused")
	})
	var err error
	for range 12 {
		_, err = handler(message.NewMessage("1", nil))
	}
	delay, deferred := event.Deferred(err)
	fmt.Println("calls:", calls, "- deferred:", deferred, delay)
	fmt.Println(server.Name(), "is down:", server.Down())
	// Output:
	// open: true
	// calls: 10 - deferred: true 2s
	// labels.example.com is down: true
}
