package memory

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/window"
)

// RetryQueue parks deliveries in a heap by due time, and is the driver that gives them back.
type RetryQueue struct {
	mu      sync.Mutex // guards what follows
	parked  dueHeap
	taken   int           // handed out and not settled
	changed chan struct{} // closed and replaced when something was parked
}

var (
	_ middleware.RetryQueue = (*RetryQueue)(nil)
	_ window.Driver         = (*RetryQueue)(nil)
)

// NewRetryQueue returns an empty queue.
func NewRetryQueue() *RetryQueue {
	return &RetryQueue{changed: make(chan struct{})}
}

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(_ context.Context, d *event.Delivery, notBefore time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.park(d, notBefore)
	return nil
}

func (q *RetryQueue) park(d *event.Delivery, notBefore time.Time) {
	heap.Push(&q.parked, parkedDelivery{d, notBefore})
	close(q.changed)
	q.changed = make(chan struct{})
}

// Waiting counts the deliveries that are parked or handed out for another attempt.
func (q *RetryQueue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parked) + q.taken
}

// Fetch implements window.Driver: it blocks until a delivery is due.
func (q *RetryQueue) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		items, wait, changed := q.due(limit)
		if len(items) > 0 {
			return items, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (q *RetryQueue) due(limit int) (items []window.Item, wait time.Duration, changed chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(items) < limit && len(q.parked) > 0 && time.Until(q.parked[0].due) <= 0 {
		d := heap.Pop(&q.parked).(parkedDelivery).delivery
		q.taken++
		msg := message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, d.Event.JSON())
		items = append(items, window.Item{Msg: msg, Raw: d})
	}
	wait = time.Hour
	if len(q.parked) > 0 {
		wait = time.Until(q.parked[0].due)
	}
	return items, wait, q.changed
}

// Ack implements window.Driver. A delivery that was parked again meanwhile is another entry.
func (q *RetryQueue) Ack(_ context.Context, items []window.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= len(items)
	return nil
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(_ context.Context, item window.Item, delay time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken--
	q.park(item.Raw.(*event.Delivery), time.Now().Add(delay))
	return nil
}

// Close implements window.Driver.
func (q *RetryQueue) Close(context.Context) error { return nil }

type parkedDelivery struct {
	delivery *event.Delivery
	due      time.Time
}

type dueHeap []parkedDelivery

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(parkedDelivery)) }

func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
