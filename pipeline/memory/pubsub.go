package memory

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/pipeline/window"
)

// Publisher implements message.Publisher over a [Broker].
type Publisher struct {
	broker *Broker
	closed atomic.Bool
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher; closing it leaves the broker alone.
func NewPublisher(b *Broker) *Publisher { return &Publisher{broker: b} }

// Publish implements message.Publisher. It waits while a consumer group's queue is full, at most as long as the first
// message's context lives.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if len(msgs) == 0 {
		return nil
	}
	return p.broker.publish(msgs[0].Context(), topic, msgs)
}

// Close implements message.Publisher.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// NewSubscriber returns a windowed subscriber of one consumer group; cfg.Open and cfg.Init are set here.
func NewSubscriber(b *Broker, group string, cfg window.Config) (*window.Subscriber, error) {
	cfg.Open = func(_ context.Context, topic string) (window.Driver, error) {
		return &driver{b.group(topic, group)}, nil
	}
	cfg.Init = func(topic string) error {
		b.group(topic, group)
		return nil
	}
	return window.New(cfg)
}

type driver struct{ queue *queue }

func (d *driver) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	msgs, err := d.queue.take(ctx, limit)
	items := make([]window.Item, len(msgs))
	for i, m := range msgs {
		items[i] = window.Item{Msg: m}
	}
	return items, err
}

func (d *driver) Ack(_ context.Context, items []window.Item) error {
	d.queue.ack(len(items))
	return nil
}

func (d *driver) Nack(_ context.Context, item window.Item, delay time.Duration) error {
	d.queue.nack(item.Msg, delay)
	return nil
}

func (d *driver) Close(context.Context) error { return nil }
