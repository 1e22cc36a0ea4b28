package main

import (
	"context"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pull is how many messages a raw consumer asks for at a time: what a worker has ahead by default.
const pull = 1000

// consume is the raw form of a worker: nats.go's own pull consumer. Nothing is decoded, and no ack is waited for but the last.
func consume(s spec) error {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	conn, err := natsgo.Connect(s.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	from, err := js.Consumer(ctx, s.Stream, consumer)
	if err != nil {
		return err
	}
	messages, err := from.Messages(jetstream.PullMaxMessages(pull))
	if err != nil {
		return err
	}
	defer messages.Stop()
	var begun time.Time
	for i := range s.Want {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		if i == 0 {
			begun = time.Now()
		}
		if err := msg.Ack(); err != nil {
			return err
		}
	}
	if err := conn.FlushWithContext(ctx); err != nil {
		return err
	}
	report{Events: s.Want, Distinct: s.Want, Seconds: time.Since(begun).Seconds()}.print()
	return nil
}

// consumeStock subscribes with watermill-nats as it comes: one message at a time, and each ack is waited for.
func consumeStock(s spec) error {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	subscriber, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{URL: s.URL, JetStream: wmnats.JetStreamConfig{DurablePrefix: "stock"}}, nil)
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(ctx, s.Stream+".>")
	if err != nil {
		return err
	}
	if err := takeAll(ctx, messages, s.Want); err != nil {
		return err
	}
	return subscriber.Close()
}
