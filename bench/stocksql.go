package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
)

// drainStock measures the subscriber of watermill-sql with a table of its own that holds as many messages.
func (b *bench) drainStock(ctx context.Context, want int64) (report, error) {
	db, err := b.database(ctx)
	if err != nil {
		return report{}, err
	}
	defer db.Close()
	topic := b.name("topic")
	if err := b.publishSQL(ctx, db, topic, want); err != nil {
		return report{}, err
	}
	if _, err := db.Exec(ctx, `vacuum analyze "watermill_`+topic+`"`); err != nil {
		return report{}, fmt.Errorf("vacuum: %w", err)
	}
	c, err := b.start(ctx, spec{Role: "read with watermill-sql", Database: db.url, Stream: topic, Want: want})
	if err != nil {
		return report{}, err
	}
	run, err := c.report(ctx)
	if err != nil {
		return run, err
	}
	return run, c.end()
}

// publishSQL publishes as watermill-sql does, many in one statement.
func (b *bench) publishSQL(ctx context.Context, db *database, topic string, want int64) error {
	publisher, err := sql.NewPublisher(sql.BeginnerFromPgx(db.Pool), sql.PublisherConfig{SchemaAdapter: sql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: true}, nil)
	if err != nil {
		return err
	}
	list, err := changes(want, b.entities)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, page) {
		msgs := make([]*message.Message, len(some))
		for i, e := range some {
			msgs[i] = message.NewMessageWithContext(ctx, e.ID, e.JSON())
		}
		if err := publisher.Publish(topic, msgs...); err != nil {
			return err
		}
	}
	return publisher.Close()
}

// readStock subscribes with watermill-sql as it comes: one message at a time, in a transaction that lasts for a page of 100.
func readStock(s spec) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	db, err := pgxpool.New(ctx, s.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	subscriber, err := sql.NewSubscriber(sql.BeginnerFromPgx(db), sql.SubscriberConfig{
		ConsumerGroup: consumer, SchemaAdapter: sql.DefaultPostgreSQLSchema{}, OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true,
	}, nil)
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(ctx, s.Stream)
	if err != nil {
		return err
	}
	return errors.Join(takeAll(ctx, messages, s.Want), subscriber.Close())
}
