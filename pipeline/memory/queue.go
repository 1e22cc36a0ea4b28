package memory

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// queue is one consumer group's messages of one topic, in the order in which they were published; what was nacked goes
// first once its delay is over.
type queue struct {
	capacity int

	mu      sync.Mutex // guards what follows
	ready   []*message.Message
	nacked  []delayed
	taken   int
	changed chan struct{} // closed and replaced at each change
}

type delayed struct {
	msg *message.Message
	due time.Time
}

func newQueue(capacity int) *queue {
	return &queue{capacity: capacity, changed: make(chan struct{})}
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) put(msgs ...*message.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = append(q.ready, msgs...)
	q.signal()
}

// wait blocks while the queue is full.
func (q *queue) wait(ctx context.Context) error {
	for {
		q.mu.Lock()
		full, changed := q.capacity > 0 && len(q.ready) >= q.capacity, q.changed
		q.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take blocks until there is a message, and returns at most limit.
func (q *queue) take(ctx context.Context, limit int) ([]*message.Message, error) {
	for {
		msgs, due, changed := q.grab(limit)
		if len(msgs) > 0 {
			return msgs, nil
		}
		timer := time.NewTimer(due)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (q *queue) grab(limit int) (msgs []*message.Message, due time.Duration, changed chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(msgs) < limit && len(q.nacked) > 0 && time.Until(q.nacked[0].due) <= 0 {
		msgs = append(msgs, q.nacked[0].msg)
		q.nacked = q.nacked[1:]
	}
	n := min(limit-len(msgs), len(q.ready))
	msgs = append(msgs, q.ready[:n]...)
	clear(q.ready[:n]) // the messages live on with their readers only
	q.ready = q.ready[n:]
	q.taken += len(msgs)
	if n > 0 {
		q.signal()
	}
	due = time.Hour
	if len(q.nacked) > 0 {
		due = time.Until(q.nacked[0].due)
	}
	return msgs, due, q.changed
}

func (q *queue) ack(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= n
	q.signal()
}

// nack takes a fresh copy: an acked or nacked message cannot be settled again. One delay serves a whole queue, so the
// list stays sorted by due time.
func (q *queue) nack(msg *message.Message, delay time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken--
	q.nacked = append(q.nacked, delayed{copyOf(msg), time.Now().Add(delay)})
	q.signal()
}

func (q *queue) unsettled() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) + len(q.nacked) + q.taken
}
