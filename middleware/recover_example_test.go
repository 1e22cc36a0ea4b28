package middleware_test

import (
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// A panic is a failure like any other, and its stack is in the log.
func ExampleRecover() {
	handler := middleware.Recover(slog.New(slog.DiscardHandler))(func(*message.Message) ([]*message.Message, error) {
		panic("no such order")
	})
	_, err := handler(message.NewMessage("1", nil))
	fmt.Println(err)
	fmt.Println("class:", event.Class(err))
	// Output:
	// panic: no such order
	// class: panic
}
