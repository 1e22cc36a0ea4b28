package middleware_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/memory"
)

// A Watermill program of its own: its handler runs once for each message UUID, however often a message comes. Settle stands
// outside and acks what was done before. A store that several processes share is in pipeline/redis or pipeline/postgres.
func ExampleDedup() {
	log := slog.New(slog.DiscardHandler)
	router := message.NewDefaultRouter(watermill.NopLogger{})
	router.AddMiddleware(
		middleware.Settle(log),
		middleware.Dedup(middleware.DedupConfig{Store: &memory.Dedup{}, Lease: time.Minute, Window: time.Hour, Log: log}),
	)
	channel := gochannel.NewGoChannel(gochannel.Config{Persistent: true, BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	router.AddConsumerHandler("invoices", "orders", channel, func(msg *message.Message) error {
		fmt.Println("invoice for", string(msg.Payload))
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- router.Run(ctx) }()
	<-router.Running()
	for _, uuid := range []string{"1", "1", "2"} {
		if err := channel.Publish("orders", message.NewMessage(uuid, []byte("order "+uuid))); err != nil {
			fmt.Println(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	// Output:
	// invoice for order 1
	// invoice for order 2
}
