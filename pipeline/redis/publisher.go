package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
)

// ErrClosed is returned by Publish after Close.
var ErrClosed = errors.New("publisher is closed")

// batchSize is how many entries or deliveries one round trip takes at most.
const batchSize = 256

// marshaller writes and reads entries as Watermill's own subscriber and publisher do.
var marshaller redisstream.DefaultMarshallerUnmarshaller

// Publisher adds messages to streams: the topic is the stream. When it returns nil they are in the memory of the server;
// whether they are on its disk is up to appendfsync, see [Warnings]. After an error some of them may be there.
type Publisher struct {
	client redis.UniversalClient
	stream string // of PublishEvents
	closed atomic.Bool
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher, whose PublishEvents writes to a stream. The client stays the caller's.
func NewPublisher(client redis.UniversalClient, stream string) *Publisher {
	return &Publisher{client: client, stream: stream}
}

// Publish implements message.Publisher. It waits at most as long as the first message's context lives.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	return p.publish(msgs[0].Context(), topic, msgs)
}

// PublishEvents adds events in their order. An event's id is the message's UUID.
func (p *Publisher) PublishEvents(ctx context.Context, events []*event.Event) error {
	msgs := make([]*message.Message, len(events))
	for i, e := range events {
		msgs[i] = message.NewMessage(e.ID, e.JSON())
	}
	return p.publish(ctx, p.stream, msgs)
}

func (p *Publisher) publish(ctx context.Context, stream string, msgs []*message.Message) error {
	if p.closed.Load() {
		return ErrClosed
	}
	for some := range slices.Chunk(msgs, batchSize) {
		pipe := p.client.Pipeline()
		for _, msg := range some {
			values, err := marshaller.Marshal(stream, msg)
			if err != nil {
				return fmt.Errorf("encode message %s: %w", msg.UUID, err)
			}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("add to stream %s: %w", stream, err)
		}
	}
	return nil
}

// Close implements message.Publisher.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// Backlog returns how many events are in a stream, and for how long the first of them has been there.
func Backlog(ctx context.Context, client redis.UniversalClient, stream string) (n int64, age time.Duration, err error) {
	pipe := client.Pipeline()
	length, first, clock := pipe.XLen(ctx, stream), pipe.XRangeN(ctx, stream, "-", "+", 1), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, 0, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	if entries := first.Val(); len(entries) > 0 {
		millis, _, _ := strings.Cut(entries[0].ID, "-")
		if at, err := strconv.ParseInt(millis, 10, 64); err == nil { // else another producer named it
			age = max(clock.Val().Sub(time.UnixMilli(at)), 0)
		}
	}
	return length.Val(), age, nil
}
