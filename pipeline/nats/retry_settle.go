package nats

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/pipeline/window"
)

// hand is a delivery that was fetched.
type hand struct {
	key         string
	parkedEntry *parkedEntry
	msg         jetstream.Msg // the latest that stands for it; guarded by the queue's mu
	sequence    uint64        // its
	moved       bool          // what became of it is stored as another parkedEntry; guarded by the queue's mu
	marked      bool          // it has a start mark

	returned bool // with an outcome: it is due again
	due      time.Time
}

// Ack implements window.Driver: the deliveries succeeded, or what became of them is stored elsewhere. One that was parked
// again meanwhile is left alone. With a replay goes its dead letter. What the server could not be told is told again
// by the next Fetch, Ack, Nack or Close.
func (q *RetryQueue) Ack(ctx context.Context, items []window.Item) error {
	q.mu.Lock()
	for _, item := range items {
		q.settled = append(q.settled, item.Raw.(*hand))
	}
	q.mu.Unlock()
	return q.flush(ctx)
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	h := item.Raw.(*hand)
	h.returned, h.due = true, time.Now().Add(delay)
	q.mu.Lock()
	q.settled = append(q.settled, h)
	q.mu.Unlock()
	return q.flush(ctx)
}

// flush tells the server what it was not told yet.
func (q *RetryQueue) flush(ctx context.Context) error {
	q.flushing.Lock()
	defer q.flushing.Unlock()
	q.mu.Lock()
	list := q.settled
	q.settled = nil
	q.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(wakers)
	for _, h := range list {
		g.Go(func() error {
			err := q.tell(ctx, h)
			if err != nil {
				q.mu.Lock()
				defer q.mu.Unlock()
				q.settled = append(q.settled, h)
			}
			return err
		})
	}
	return wrap("settle retries", g.Wait())
}

// tell writes what follows from an outcome before it takes the delivery from the stream.
func (q *RetryQueue) tell(ctx context.Context, h *hand) error {
	q.mu.Lock()
	moved := h.moved
	q.mu.Unlock()
	var err error
	switch {
	case moved:
	case h.returned:
		err = q.giveBack(ctx, h)
	default:
		err = q.done(ctx, h)
	}
	if err == nil && h.marked {
		err = q.stream.Purge(ctx, jetstream.WithPurgeSubject(q.subjects.start(h.key)))
	}
	if err != nil {
		return err
	}
	return q.release(ctx, h)
}

func (q *RetryQueue) done(ctx context.Context, h *hand) error {
	if h.parkedEntry.Generation > 0 {
		if err := q.dead.succeeded(ctx, h.key, h.parkedEntry.Generation); err != nil {
			return err
		}
	}
	if h.parkedEntry.Lane != "" {
		return q.leaveLane(ctx, h.parkedEntry)
	}
	return nil
}

func (q *RetryQueue) giveBack(ctx context.Context, h *hand) error {
	e := *h.parkedEntry
	e.Due = h.due
	q.leaveTo(h, true)
	if err := q.store(ctx, &e); err != nil {
		q.leaveTo(h, false)
		return err
	}
	return nil
}

// release acks the message of h until the server confirms it (see confirm.go), and lets the next suspect run.
func (q *RetryQueue) release(ctx context.Context, h *hand) error {
	q.mu.Lock()
	msg := h.msg
	q.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := msg.DoubleAck(ctx); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.out[h.key] == h {
		delete(q.out, h.key)
	}
	if q.suspect == h {
		q.suspect, q.alone = nil, false
	}
	return nil
}

// Close implements window.Driver. Until ctx ends it tries to tell every outcome; then it gives back what is still in
// hand, so that other workers neither wait for it nor take it for what killed this one.
func (q *RetryQueue) Close(ctx context.Context) error {
	defer q.stop()
	q.mu.Lock()
	for _, h := range q.suspects {
		_ = h.msg.Nak() // it stays a suspect
	}
	q.suspects = nil
	for _, h := range q.out {
		if !slices.Contains(q.settled, h) {
			h.returned, h.due = true, time.Now()
			q.settled = append(q.settled, h)
		}
	}
	q.mu.Unlock()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := q.flush(ctx)
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, outcomeTimeout)
			defer cancel()
			return wrap("settle retries", q.js.Conn().FlushWithContext(ctx))
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

// confirmTimeout is how long one ack of a retry may take; then it is sent again.
const confirmTimeout = 2 * time.Second

// outcomeTimeout bounds how long the end waits for the server to have read the last acks.
const outcomeTimeout = 5 * time.Second

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
