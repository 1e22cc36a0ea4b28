package middleware_test

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/middleware"
)

// Only the process that leads runs the handler. For the other the message is busy, which is no failed attempt.
func ExampleFence() {
	leads := true
	handler := middleware.Fence(func() bool { return leads })(func(*message.Message) ([]*message.Message, error) {
		fmt.Println("label printed")
		return nil, nil
	})
	for range 2 {
		if _, err := handler(message.NewMessage("1", nil)); err != nil {
			fmt.Println(err)
		}
		leads = false
	}
	// Output:
	// label printed
	// held by another worker
}
