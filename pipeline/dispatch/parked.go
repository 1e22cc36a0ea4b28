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
	unstored   int       // deliveries that are on their way into the queue
	changes    int       // how often deliveries were added
}

func newParkedLanes(stored []Lane) *parkedLanes {
	p := &parkedLanes{lanes: map[laneKey]*parkedLane{}}
	for _, l := range stored {
		p.lanes[laneKey{Topic(l.Observer, l.Action), l.Name}] = &parkedLane{deliveries: l.Parked}
	}
	p.any.Store(int64(len(p.lanes)))
	return p
}

// add notes that d is in the queue.
func (p *parkedLanes) add(d *event.Delivery, due time.Time) { p.put(d, due, 0) }

// expect notes that d is about to be in the queue, of which stored tells.
func (p *parkedLanes) expect(d *event.Delivery, due time.Time) { p.put(d, due, 1) }

func (p *parkedLanes) put(d *event.Delivery, due time.Time, unstored int) {
	if d.Lane == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := keyOf(d)
	l := p.lanes[key]
	if l == nil {
		l = &parkedLane{}
		p.lanes[key] = l
		p.any.Add(1)
	}
	l.deliveries++
	l.changes++
	l.unstored += unstored
	l.due = due
}

// follow adds d to a lane that has others in the queue, and says when it is due. It reports false when there are none.
func (p *parkedLanes) follow(d *event.Delivery) (due time.Time, ok bool) {
	if d.Lane == "" || p.any.Load() == 0 {
		return time.Time{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[keyOf(d)]
	if l == nil {
		return time.Time{}, false
	}
	l.deliveries++
	l.changes++
	l.unstored++
	return l.due, true
}

// stored notes what became of a delivery that was on its way into the queue.
func (p *parkedLanes) stored(d *event.Delivery, ok bool) {
	if d.Lane == "" {
		return
	}
	p.mu.Lock()
	if l := p.lanes[keyOf(d)]; l != nil {
		l.unstored--
	}
	p.mu.Unlock()
	if !ok {
		p.remove(d)
	}
}

func keyOf(d *event.Delivery) laneKey { return laneKey{Topic(d.Observer, d.Action), d.Lane} }

// learn adds what other processes have parked.
func (p *parkedLanes) learn(stored []Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range stored {
		key := laneKey{Topic(s.Observer, s.Action), s.Name}
		l := p.lanes[key]
		if l == nil {
			l = &parkedLane{}
			p.lanes[key] = l
			p.any.Add(1)
		}
		l.deliveries = max(l.deliveries, s.Parked+l.unstored)
		l.changes++
	}
}

// settled lists the lanes of which nothing is on its way into the queue, and how often each has changed.
func (p *parkedLanes) settled() map[laneKey]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	lanes := map[laneKey]int{}
	for key, l := range p.lanes {
		if l.unstored == 0 {
			lanes[key] = l.changes
		}
	}
	return lanes
}

// forget drops the lanes that are not in the queue any more: other processes have run what was. before is what settled
// returned before the queue was asked.
func (p *parkedLanes) forget(before map[laneKey]int, stored []Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range stored {
		delete(before, laneKey{Topic(s.Observer, s.Action), s.Name})
	}
	for key, changes := range before {
		if l := p.lanes[key]; l != nil && l.changes == changes {
			delete(p.lanes, key)
			p.any.Add(-1)
		}
	}
}

// remove notes that d has left the queue.
func (p *parkedLanes) remove(d *event.Delivery) {
	if d.Lane == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := keyOf(d)
	l := p.lanes[key]
	if l == nil {
		return
	}
	if l.deliveries--; l.deliveries == 0 {
		delete(p.lanes, key)
		p.any.Add(-1)
	}
}
