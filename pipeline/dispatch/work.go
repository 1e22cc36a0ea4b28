package dispatch

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/step"
	"github.com/fraiseql/observer/pipeline/window"
)

// work is one upstream message and what is still open of it.
type work struct {
	msg        *message.Message
	ctx        context.Context // with which the message came: its own changes on the way through the handler
	tracker    window.Tracker
	revoked    *atomic.Bool // another process is to have it, unless it has begun
	event      *event.Event
	settled    func(*event.Event)
	generation int // of its deliveries
	open       atomic.Int32
	begun      atomic.Bool // one of its deliveries was started
	abandoned  atomic.Bool // one of its deliveries is left to the next process
	entered    int32       // deliveries that have entered their shares, which guard it

	actions chan struct{} // limits the actions at the same time; nil where there is one delivery only
	turn    chan struct{} // guards running; a channel, since its holder may wait for a slot
	running int           // deliveries that run; the first takes the event's slot, the last gives it back
}

func newWork(msg *message.Message, e *event.Event) *work {
	ctx := msg.Context()
	return &work{msg: msg, ctx: ctx, tracker: window.TrackerOf(ctx), revoked: window.RevokedOf(ctx), event: e}
}

// left returns the actions that have not settled before.
func (w *work) left(actions []*action) []*action {
	done := func(a *action) bool { return w.tracker.WasDone(a.topic) }
	if !slices.ContainsFunc(actions, done) {
		return actions
	}
	return slices.DeleteFunc(slices.Clone(actions), done)
}

func (w *work) expect(deliveries, concurrent int) {
	w.open.Store(int32(deliveries)) //nolint:gosec // the number of declared actions
	if deliveries > 1 {
		w.actions = make(chan struct{}, concurrent)
		w.turn = make(chan struct{}, 1)
	}
}

// settle takes one delivery off that has settled. Unless the message settles with it, the tracker remembers it, so that
// what becomes of the others does not repeat it.
func (w *work) settle(a *action) {
	if w.actions != nil && (w.open.Load() > 1 || w.abandoned.Load()) {
		w.tracker.Done(a.topic)
	}
	w.done(1, true)
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
		window.Settle(w.ctx, w.msg, false)
		return
	}
	w.finish()
}

func (w *work) finish() {
	step.At(step.BeforeAck, w.event.ID)
	window.Settle(w.ctx, w.msg, true)
	if w.settled != nil {
		w.settled(w.event)
	}
}

// begin waits for the right to run one delivery of w. It reports false when the process drains and w has not begun: what
// has begun is finished.
func (d *Dispatcher) begin(ctx context.Context, w *work) bool {
	for d.mayBegin(ctx, w) && w.enter(ctx, d.slots) {
		if d.held() && !w.lost() {
			if w.begun.CompareAndSwap(false, true) {
				w.tracker.Start()
			}
			return true
		}
		d.end(w) // the wait for a slot outlasted the lease, or the right to the event
	}
	return false
}

// lost reports whether another process is to begin with w.
func (w *work) lost() bool { return w.revoked.Load() && !w.begun.Load() }

// mayBegin waits while the lease is not held. Without it a draining process leaves even what has begun to its successor.
func (d *Dispatcher) mayBegin(ctx context.Context, w *work) bool {
	for w.ctx.Err() == nil && !w.lost() {
		held := d.held()
		switch {
		case ctx.Err() != nil:
			return held && w.begun.Load()
		case held:
			return true
		}
		pause(w.ctx, nil, heldPause)
	}
	return false
}

func (d *Dispatcher) held() bool { return d.cfg.Held == nil || d.cfg.Held() }

func (w *work) enter(ctx context.Context, slots chan struct{}) bool {
	draining, dead := ctx.Done(), w.ctx.Done()
	if w.begun.Load() {
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
