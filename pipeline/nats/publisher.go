package nats

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
)

// ErrClosed is returned by Publish after Close.
var ErrClosed = errors.New("publisher is closed")

const (
	// maxInFlight is how many messages wait for their acks at most: enough that the server is never idle, and few enough
	// that all of them are acked within ackTimeout by a slow disk.
	maxInFlight = 4096
	// ackTimeout is how long the server may take to store a message. A full disk shows by nothing else.
	ackTimeout = 10 * time.Second
)

// PublisherConfig describes a [Publisher].
type PublisherConfig struct {
	Conn   *natsgo.Conn // required
	Config Config
	// MaxInFlight is how many messages of all calls wait for their acks at most. Default 4096.
	MaxInFlight int
}

// Publisher writes to the event stream, and returns when the server has stored what it was given.
type Publisher struct {
	js     jetstream.JetStream
	cfg    Config
	closed atomic.Bool
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher; closing it leaves the connection alone.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.Conn == nil {
		return nil, errors.New("publisher: Conn is required")
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = maxInFlight
	}
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncMaxPending(cfg.MaxInFlight), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	return &Publisher{js: js, cfg: cfg.Config}, nil
}

// Stored says what became of a batch of events.
type Stored struct {
	// Last is the highest sequence in the stream of an event of the batch.
	Last uint64
	// Duplicates is how many of them the stream had already.
	Duplicates int
}

// PublishEvents stores events, and returns when the server has acknowledged each. After an error some may be stored and
// some not: publish all of them again, within the duplicates window none is stored twice. [ErrFull] says that there is no room.
func (p *Publisher) PublishEvents(ctx context.Context, events []*event.Event) (Stored, error) {
	msgs := make([]*natsgo.Msg, len(events))
	for i, e := range events {
		msgs[i] = marshalEvent(p.cfg.subjectOf(e), e)
	}
	return p.publish(ctx, msgs)
}

// Publish implements message.Publisher; the topic is the entity. A message whose UUID the topic had within the duplicates
// window of the stream is not stored again. One that carries its event counts as that event.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	list := make([]*natsgo.Msg, len(msgs))
	for i, msg := range msgs {
		list[i] = p.message(topic, msg)
	}
	_, err := p.publish(msgs[0].Context(), list)
	return err
}

func (p *Publisher) message(topic string, msg *message.Message) *natsgo.Msg {
	e := event.OfContext(msg.Context())
	if e == nil {
		return marshal(p.cfg.subject(topic, event.Custom, topic), msg)
	}
	m := marshal(p.cfg.subject(topic, e.Type, orderKey(e)), msg)
	m.Header.Set(jetstream.MsgIDHeader, e.ID)
	return m
}

// publish sends all before it waits for the first ack.
func (p *Publisher) publish(ctx context.Context, msgs []*natsgo.Msg) (stored Stored, err error) {
	if p.closed.Load() {
		return stored, ErrClosed
	}
	acks := make([]jetstream.PubAckFuture, 0, len(msgs))
	for _, msg := range msgs {
		// Another stream that takes the same subjects must not swallow it.
		ack, failed := p.js.PublishMsgAsync(msg, jetstream.WithExpectStream(p.cfg.StreamName), jetstream.WithStallWait(ackTimeout))
		if failed != nil {
			err = failed
			break
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		if failed := stored.wait(ctx, ack); failed != nil {
			return stored, wrap("publish to "+p.cfg.StreamName, full(failed))
		}
	}
	return stored, wrap("publish to "+p.cfg.StreamName, err)
}

func (s *Stored) wait(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ack.Err():
		return err
	case a := <-ack.Ok():
		s.Last = max(s.Last, a.Sequence)
		if a.Duplicate {
			s.Duplicates++
		}
		return nil
	}
}

// Close implements message.Publisher. What other goroutines are publishing fails.
func (p *Publisher) Close() error {
	if !p.closed.Swap(true) {
		p.js.CleanupPublisher()
	}
	return nil
}
