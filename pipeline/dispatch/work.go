package dispatch

import (
	"context"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// work is one upstream message and what is still open of it.
type work struct {
	msg        *message.Message
	event      *event.Event
	settled    func(*event.Event)
	generation int // of its deliveries
	open       atomic.Int32
	begun      atomic.Bool // one of its deliveries was started
	abandoned  atomic.Bool // one of its deliveries is left to the next process

	actions chan struct{} // limits the actions at the same time; nil where there is one delivery only
	turn    chan struct{} // guards running; a channel, since its holder may wait for a slot
	running int           // deliveries that run; the first takes the event's slot, the last gives it back
}

func (w *work) expect(deliveries, concurrent int) {
	w.open.Store(int32(deliveries)) //nolint:gosec // the number of declared actions
	if deliveries > 1 {
		w.actions = make(chan struct{}, concurrent)
		w.turn = make(chan struct{}, 1)
	}
}

// done takes n deliveries off; the last one settles the message upstream.
func (w *work) done(n int, ok bool) {
	if !ok {
		w.abandoned.Store(true)
	}
	if w.open.Add(int32(-n)) > 0 { //nolint:gosec // as above
		return
	}
	if w.abandoned.Load() {
		w.msg.Nack()
		return
	}
	w.finish()
}

func (w *work) finish() {
	w.msg.Ack()
	if w.settled != nil {
		w.settled(w.event)
	}
}

// begin waits for the right to run j. It reports false when the process drains and neither j's event has begun nor one
// behind it in the lane: what has begun is finished, so that a restart does not repeat it.
func (d *Dispatcher) begin(ctx context.Context, j *job) bool {
	w := j.work
	for d.mayBegin(ctx, j) {
		if !w.enter(ctx, d.slots) {
			continue // the process drains since: mayBegin decides
		}
		if d.held() {
			if w.begun.CompareAndSwap(false, true) {
				window.Started(w.msg.Context())
			}
			return true
		}
		d.end(w) // the wait for a slot outlasted the lease
	}
	return false
}

// mayBegin waits while the lease is not held. Without it a draining process leaves even what has begun to its successor.
func (d *Dispatcher) mayBegin(ctx context.Context, j *job) bool {
	w := j.work
	for w.msg.Context().Err() == nil {
		held := d.held()
		switch {
		case ctx.Err() != nil:
			return held && j.action.begunBehind(j)
		case held:
			return true
		}
		pause(w.msg.Context(), nil, heldPause)
	}
	return false
}

func (d *Dispatcher) held() bool { return d.cfg.Held == nil || d.cfg.Held() }

func (w *work) enter(ctx context.Context, slots chan struct{}) bool {
	draining, dead := ctx.Done(), w.msg.Context().Done()
	if w.begun.Load() || ctx.Err() != nil { // then it was decided that this one still runs
		draining = nil
	}
	if w.actions == nil {
		return acquire(slots, draining, dead)
	}
	return w.enterShared(slots, draining, dead)
}

// enterShared is enter for an event with several deliveries, which share its slot.
func (w *work) enterShared(slots chan struct{}, draining, dead <-chan struct{}) bool {
	if !acquire(w.actions, draining, dead) {
		return false
	}
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	if w.running == 0 && !acquire(slots, draining, dead) {
		<-w.actions
		return false
	}
	w.running++
	return true
}

func acquire(slots chan struct{}, draining, dead <-chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-draining:
		return false
	case <-dead:
		return false
	}
}

func (d *Dispatcher) end(w *work) {
	if w.actions == nil {
		<-d.slots
		return
	}
	w.turn <- struct{}{}
	w.running--
	if w.running == 0 {
		<-d.slots
	}
	<-w.turn
	<-w.actions
}
