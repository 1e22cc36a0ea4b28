package memory

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// busyPoll is how soon a delivery is looked at again whose endpoint takes no more.
const busyPoll = 20 * time.Millisecond

// RetryQueue parks deliveries in a heap by due time, and is the driver that gives them back.
type RetryQueue struct {
	busy func() []string // topics to leave alone; nil: none

	mu      sync.Mutex // guards what follows
	parked  dueHeap
	taken   map[*parkedDelivery]struct{} // handed out and not settled
	lanes   map[string][]int64           // the places of the deliveries of a lane, in order
	places  int64
	changed chan struct{} // closed and replaced when something was parked or settled
}

var (
	_ middleware.RetryQueue = (*RetryQueue)(nil)
	_ window.Driver         = (*RetryQueue)(nil)
)

// NewRetryQueue returns an empty queue.
func NewRetryQueue() *RetryQueue {
	return &RetryQueue{taken: map[*parkedDelivery]struct{}{}, lanes: map[string][]int64{}, changed: make(chan struct{})}
}

// Avoid sets what lists the topics for which nothing is to be handed out for now, and must be called before the first Fetch.
func (q *RetryQueue) Avoid(busy func() []string) { q.busy = busy }

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(_ context.Context, d *event.Delivery, notBefore time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.park(d, notBefore)
	return nil
}

// Spill parks deliveries that have not failed, in their order.
func (q *RetryQueue) Spill(_ context.Context, list []dispatch.Spilled) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range list {
		q.park(s.Delivery, s.NotBefore)
	}
	return nil
}

// Lanes lists no lanes: an empty queue has none.
func (q *RetryQueue) Lanes(context.Context) ([]dispatch.Lane, error) { return nil, nil }

// park puts d at the end of its lane, or where it was in it.
func (q *RetryQueue) park(d *event.Delivery, due time.Time) {
	p := &parkedDelivery{delivery: d, due: due}
	if d.Lane != "" {
		p.place = q.place(d)
		if p.place == 0 {
			q.places++
			p.place = q.places
			q.lanes[p.lane()] = append(q.lanes[p.lane()], p.place)
		}
	}
	heap.Push(&q.parked, p)
	q.signal()
}

// place returns the place of a delivery that was handed out from its lane, and takes it from there.
func (q *RetryQueue) place(d *event.Delivery) (place int64) {
	for was := range q.taken {
		if was.place > 0 && was.delivery.ID() == d.ID() {
			place, was.place = was.place, 0
			break
		}
	}
	return place
}

func (q *RetryQueue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Waiting counts the deliveries that are parked or handed out for another attempt.
func (q *RetryQueue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parked) + len(q.taken)
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
	var busy []string
	if q.busy != nil {
		busy = q.busy()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var blocked []*parkedDelivery
	for len(items) < limit && len(q.parked) > 0 && time.Until(q.parked[0].due) <= 0 {
		p := heap.Pop(&q.parked).(*parkedDelivery)
		if p.place > 0 && q.lanes[p.lane()][0] != p.place || slices.Contains(busy, dispatch.Topic(p.delivery.Observer, p.delivery.Action)) {
			blocked = append(blocked, p)
			continue
		}
		d := p.delivery
		q.taken[p] = struct{}{}
		msg := message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, d.Event.JSON())
		items = append(items, window.Item{Msg: msg, Raw: p})
	}
	wait = time.Hour
	if len(q.parked) > 0 {
		wait = time.Until(q.parked[0].due)
	}
	for _, p := range blocked {
		heap.Push(&q.parked, p)
		wait = min(wait, busyPoll)
	}
	return items, wait, q.changed
}

// Ack implements window.Driver. A delivery that was parked again meanwhile is another entry.
func (q *RetryQueue) Ack(_ context.Context, items []window.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range items {
		q.leave(item.Raw.(*parkedDelivery))
	}
	q.signal()
	return nil
}

func (q *RetryQueue) leave(p *parkedDelivery) {
	delete(q.taken, p)
	if p.place == 0 {
		return
	}
	lane := q.lanes[p.lane()]
	if i := slices.Index(lane, p.place); i >= 0 {
		lane = slices.Delete(lane, i, i+1)
	}
	if q.lanes[p.lane()] = lane; len(lane) == 0 {
		delete(q.lanes, p.lane())
	}
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(_ context.Context, item window.Item, delay time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := item.Raw.(*parkedDelivery)
	delete(q.taken, p)
	p.due = time.Now().Add(delay)
	heap.Push(&q.parked, p)
	q.signal()
	return nil
}

// Close implements window.Driver.
func (q *RetryQueue) Close(context.Context) error { return nil }

type parkedDelivery struct {
	delivery *event.Delivery
	due      time.Time
	place    int64 // in its lane; 0: it has none
}

func (p *parkedDelivery) lane() string {
	return dispatch.Topic(p.delivery.Observer, p.delivery.Action) + "/" + p.delivery.Lane
}

// dueHeap gives what is due first; of those due at once, what stands first in its lane.
type dueHeap []*parkedDelivery

func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].place < h[j].place
	}
	return h[i].due.Before(h[j].due)
}

func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(*parkedDelivery)) }

func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	return last
}
