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

// A failure is stored with its due time, and its message is done: waiting holds nothing up. The queue gives the delivery
// back when it is due. The last attempt's error is permanent, which DeadLetter looks for.
func ExampleRetry() {
	queue := memory.NewRetryQueue()
	config := middleware.RetryConfig{MaxAttempts: 2, InitialDelayMS: 5, MaxDelayMS: 5, BackoffStrategy: "fixed"}
	retry := middleware.Retry(config, false, queue, slog.New(slog.DiscardHandler))
	handler := retry(middleware.Attempts(func(*message.Message) ([]*message.Message, error) {
		return nil, errors.New("the printer is out of paper")
	}))

	d := &event.Delivery{Event: &event.Event{ID: "1", Type: event.Insert, Entity: "Order"}, Observer: "shipping", Action: "label"}
	ctx := context.Background()
	_, err := handler(message.NewMessageWithContext(event.NewContext(ctx, d), d.Event.ID, nil))
	fmt.Println("first:", err, "- waiting:", queue.Waiting())

	items, err := queue.Fetch(ctx, 1)
	if err != nil {
		panic(err)
	}
	_, err = handler(items[0].Msg)
	fmt.Println("second:", err, "- permanent:", event.IsPermanent(err))
	// Output:
	// first: parked - waiting: 1
	// second: the printer is out of paper - permanent: true
}
