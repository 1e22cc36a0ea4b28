package middleware_test

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/memory"
)

// The cache in a Watermill program of another kind: the key is what its handler makes of a message, here the payload. In a
// router it is added with handler.AddMiddleware.
func ExampleCache() {
	results, err := middleware.NewResults(middleware.ResultsConfig{
		Store: memory.NewResults(), TTL: time.Minute, Log: slog.Default(),
		Look: func(hit bool) { fmt.Println("hit:", hit) },
	})
	if err != nil {
		panic(err)
	}
	byPayload := func(msg *message.Message) (string, error) { return "greeting:" + string(msg.Payload), nil }
	handler := middleware.Cache(results, byPayload)(func(msg *message.Message) ([]*message.Message, error) {
		fmt.Printf("hello %s\n", msg.Payload)
		return nil, nil
	})
	for _, name := range []string{"Ada", "Ada", "Bob"} {
		if _, err := handler(message.NewMessage("id", []byte(name))); err != nil {
			panic(err)
		}
	}
	// Output:
	// hit: false
	// hello Ada
	// hit: true
	// hit: false
	// hello Bob
}
