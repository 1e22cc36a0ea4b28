package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

// entries is how many entries both sides read at a time: what a worker asks for at most.
const entries = 256

// readStream is the raw form of a worker: one round trip reads entries and acknowledges those of the one before. Nothing is
// decoded, and what is acknowledged stays in the stream.
func readStream(s spec) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	client, err := connectRedis(s.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := client.XGroupCreate(ctx, s.Stream, consumer, "0").Err(); err != nil {
		return err
	}
	begun, total := time.Now(), int64(0)
	for done := []string{}; total < s.Want || len(done) > 0; {
		pipe := client.Pipeline()
		if len(done) > 0 {
			pipe.XAck(ctx, s.Stream, consumer, done...)
		}
		read := pipe.XReadGroup(ctx, &redis.XReadGroupArgs{Group: consumer, Consumer: "raw", Streams: []string{s.Stream, ">"}, Count: entries, Block: -1})
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		done = done[:0]
		for _, stream := range read.Val() {
			for _, entry := range stream.Messages {
				done = append(done, entry.ID)
			}
		}
		total += int64(len(done))
	}
	took := time.Since(begun)
	if left, err := client.XPending(ctx, s.Stream, consumer).Result(); err != nil || left.Count > 0 {
		return errors.Join(err, fmt.Errorf("%d entries are not acknowledged", left.Count))
	}
	report{Events: total, Distinct: total, Seconds: took.Seconds()}.print()
	return nil
}

// readStreamStock subscribes with watermill-redisstream as it comes: one message at a time, and each ack is waited for.
func readStreamStock(s spec) error {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	client, err := connectRedis(s.URL)
	if err != nil {
		return err
	}
	subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{Client: client, ConsumerGroup: consumer, OldestId: "0"}, nil)
	if err != nil {
		return err
	}
	messages, err := subscriber.Subscribe(ctx, s.Stream)
	if err != nil {
		return err
	}
	if err := takeAll(ctx, messages, s.Want); err != nil {
		return err
	}
	return subscriber.Close() // and the client
}

// takeAll acks what a stock subscriber hands out, and reports how long that took.
func takeAll(ctx context.Context, messages <-chan *message.Message, want int64) error {
	var begun time.Time
	for i := range want {
		select {
		case msg := <-messages:
			if i == 0 {
				begun = time.Now()
			}
			msg.Ack()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	report{Events: want, Distinct: want, Seconds: time.Since(begun).Seconds()}.print()
	return nil
}
