package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/pipeline/nats"
)

// busPatience is how long a command that ends by itself waits for NATS.
const busPatience = 15 * time.Second

// onNATS runs a command that works on the servers of transport.nats and ends by itself: it does not wait for one that does
// not answer. The embedded server is in the process that runs it, and reached by no other.
func onNATS(ctx context.Context, cfg *config.Config, work func(context.Context, *natsconn.Conn, jetstream.JetStream) error) error {
	if cfg.Transport.NATS.Embedded {
		return usagef("transport.nats.embedded = true: that server can be reached in its own process only; for this command let observer use a nats-server of its own")
	}
	opening, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	conn, err := natsconn.Open(opening, cfg.Transport.NATS.Config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if down := conn.Down(); down != nil {
		return fmt.Errorf("connect to NATS: %w: check that the server runs and that transport.nats.url reaches it", down)
	}
	js, err := jetstream.New(conn.Conn)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	return nats.Diagnose(work(ctx, conn, js))
}

// publishToNATS puts every event of source into the stream, which is made where it is missing.
func publishToNATS(ctx context.Context, conn *natsconn.Conn, cfg nats.Config, source *eventSource) (ids []string, err error) {
	events, err := source.all()
	if err != nil {
		return nil, err
	}
	if _, err := nats.Setup(ctx, conn.Conn, conn, cfg, nats.Ahead); err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	publisher, err := nats.NewPublisher(nats.PublisherConfig{Conn: conn.Conn, Config: cfg})
	if err != nil {
		return nil, fmt.Errorf("emit: %w", err)
	}
	if _, err := publisher.PublishEvents(ctx, events); err != nil {
		return nil, fmt.Errorf("emit: %w: some of the events may be in the stream; those that have an \"id\" of their own it recognises when they are emitted again", err)
	}
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids, publisher.Close()
}
