package dispatch

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/event"
)

// Lane is a lane of which deliveries are in the retry queue.
type Lane struct {
	Observer, Action, Name string
	Parked                 int
}

// parkedLanes knows the lanes of which deliveries are in the retry queue: what comes later in one of them has to go there
// as well.
type parkedLanes struct {
	any atomic.Int64 // how many there are; most of the time none

	mu    sync.Mutex // guards what follows
	lanes map[laneKey]*parkedLane
}

type laneKey struct{ topic, lane string }

type parkedLane struct {
	deliveries int
	due        time.Time // of the first
}

func newParkedLanes(stored []Lane) *parkedLanes {
	p := &parkedLanes{lanes: map[laneKey]*parkedLane{}}
	for _, l := range stored {
		p.lanes[laneKey{Topic(l.Observer, l.Action), l.Name}] = &parkedLane{deliveries: l.Parked}
	}
	p.any.Store(int64(len(p.lanes)))
	return p
}

// add notes that d is in the queue, or about to be.
func (p *parkedLanes) add(d *event.Delivery, due time.Time) {
	if d.Lane == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := laneKey{Topic(d.Observer, d.Action), d.Lane}
	l := p.lanes[key]
	if l == nil {
		l = &parkedLane{}
		p.lanes[key] = l
		p.any.Add(1)
	}
	l.deliveries++
	l.due = due
}

// follow adds d to a lane that has others in the queue, and says when it is due. It reports false when there are none.
func (p *parkedLanes) follow(d *event.Delivery) (due time.Time, ok bool) {
	if d.Lane == "" || p.any.Load() == 0 {
		return time.Time{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[laneKey{Topic(d.Observer, d.Action), d.Lane}]
	if l == nil {
		return time.Time{}, false
	}
	l.deliveries++
	return l.due, true
}

// remove notes that d has left the queue.
func (p *parkedLanes) remove(d *event.Delivery) {
	if d.Lane == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := laneKey{Topic(d.Observer, d.Action), d.Lane}
	l := p.lanes[key]
	if l == nil {
		return
	}
	if l.deliveries--; l.deliveries == 0 {
		delete(p.lanes, key)
		p.any.Add(-1)
	}
}
