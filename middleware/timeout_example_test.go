package middleware_test

import (
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/middleware"
)

// The handler's context ends after 10 ms; the message has its own again when the handler has returned.
func ExampleTimeout() {
	handler := middleware.Timeout(10 * time.Millisecond)(func(msg *message.Message) ([]*message.Message, error) {
		<-msg.Context().Done()
		return nil, msg.Context().Err()
	})
	msg := message.NewMessage("1", nil)
	_, err := handler(msg)
	fmt.Println("handler:", err)
	fmt.Println("message:", msg.Context().Err())
	// Output:
	// handler: context deadline exceeded
	// message: <nil>
}
