package memory

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// ErrClosed is returned by Publish after Close.
var ErrClosed = errors.New("publisher is closed")

// Broker keeps each topic's messages for each consumer group until they are acked. What is published before a topic has
// a group waits for the first one.
type Broker struct {
	capacity int

	mu     sync.Mutex // guards topics
	topics map[string]*topic
}

type topic struct {
	early  []*message.Message // published before there was a group
	groups map[string]*queue
}

// NewBroker returns a Broker whose publishers wait while a group has capacity messages to be read; 0 is no limit.
func NewBroker(capacity int) *Broker {
	return &Broker{capacity: capacity, topics: map[string]*topic{}}
}

func (b *Broker) topic(name string) *topic {
	t := b.topics[name]
	if t == nil {
		t = &topic{groups: map[string]*queue{}}
		b.topics[name] = t
	}
	return t
}

// group returns the queue of a topic's consumer group.
func (b *Broker) group(topicName, name string) *queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(topicName)
	q := t.groups[name]
	if q == nil {
		q = newQueue(b.capacity)
		q.put(t.early...)
		t.early = nil
		t.groups[name] = q
	}
	return q
}

func (b *Broker) publish(ctx context.Context, topicName string, msgs []*message.Message) error {
	b.mu.Lock()
	t := b.topic(topicName)
	if len(t.groups) == 0 {
		t.early = append(t.early, copies(msgs)...)
		b.mu.Unlock()
		return nil
	}
	queues := make([]*queue, 0, len(t.groups))
	for _, q := range t.groups {
		queues = append(queues, q)
	}
	b.mu.Unlock()
	for _, q := range queues {
		if err := q.wait(ctx); err != nil {
			return err
		}
		q.put(copies(msgs)...)
	}
	return nil
}

func copies(msgs []*message.Message) []*message.Message {
	list := make([]*message.Message, len(msgs))
	for i, m := range msgs {
		list[i] = copyOf(m)
	}
	return list
}

// copyOf copies a message with the event that its context carries, so that nobody decodes it again.
func copyOf(m *message.Message) *message.Message {
	c := m.Copy()
	if e := event.OfContext(m.Context()); e != nil {
		c.SetContext(event.WithEvent(context.Background(), e))
	}
	return c
}

// Unsettled counts the messages of a topic's consumer group that were published and are not acked.
func (b *Broker) Unsettled(topicName, group string) int { return b.group(topicName, group).unsettled() }
