package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// Pauses of a lane whose delivery could neither end nor be stored: a store is away.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	heldPause  = 20 * time.Millisecond
)

// action is one topic and its lanes.
type action struct {
	observer, name string
	ordered        bool
	out            chan *message.Message

	mu    sync.Mutex // guards lanes and the jobs in them
	lanes map[string]*job
}

// job is one delivery on its way. Jobs of one lane are linked: next is the one to run when this one has settled.
type job struct {
	work     *work
	delivery *event.Delivery
	action   *action
	rest     []*action // actions that follow this one, for a sequential observer
	next     *job
	last     *job // of the lane; kept by the job that runs
}

func newAction(o Observer, name string) *action {
	return &action{observer: o.Name, name: name, ordered: !o.Unordered, out: make(chan *message.Message), lanes: map[string]*job{}}
}

func (a *action) delivery(e *event.Event) *event.Delivery {
	return &event.Delivery{Event: e, Observer: a.observer, Action: a.name}
}

// lane names the lane of an event. An event without an entity id is about no entity that others are about, so it has
// nothing to keep in order with.
func (a *action) lane(e *event.Event) (key string, ordered bool) {
	if !a.ordered || e.EntityID == "" {
		return "", false
	}
	return e.Key(), true
}

// enqueue starts j, or puts it behind the running job of its lane.
func (d *Dispatcher) enqueue(ctx context.Context, j *job) {
	key, ordered := j.action.lane(j.delivery.Event)
	if ordered && j.action.join(key, j) {
		return
	}
	d.jobs.Go(func() {
		for run, alive := j, true; run != nil; {
			alive = alive && d.deliver(ctx, run)
			d.settle(ctx, run, alive)
			if !ordered {
				return
			}
			run = run.action.leave(key, run)
		}
	})
}

// join reports whether the lane is running, and then j stands at its end.
func (a *action) join(key string, j *job) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := a.lanes[key]
	if running == nil {
		j.last = j
		a.lanes[key] = j
		return false
	}
	running.last.next = j
	running.last = j
	return true
}

// leave takes the settled job from the lane and returns the next one.
func (a *action) leave(key string, j *job) *job {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j.next == nil {
		delete(a.lanes, key)
		return nil
	}
	j.next.last = j.last
	a.lanes[key] = j.next
	return j.next
}

// settle lets a sequential observer's next action follow before the lane goes on, so that order holds there too. Behind
// a delivery that is left to the next process (ok is false) the whole lane is left to it.
func (d *Dispatcher) settle(ctx context.Context, j *job, ok bool) {
	if len(j.rest) > 0 && ok {
		d.enqueue(ctx, &job{work: j.work, delivery: j.rest[0].delivery(j.work.event), action: j.rest[0], rest: j.rest[1:]})
	} else if len(j.rest) > 0 {
		j.work.done(len(j.rest), false)
	}
	j.work.done(1, ok)
}

// deliver hands j to its handler until that settles it. It reports false when the process ends first.
func (d *Dispatcher) deliver(ctx context.Context, j *job) bool {
	for wait := firstPause; d.begin(ctx, j.work); wait = min(2*wait, lastPause) {
		msg := message.NewMessageWithContext(event.NewContext(j.work.msg.Context(), j.delivery), j.delivery.Event.ID, j.work.msg.Payload)
		j.action.out <- msg
		acked := false
		select {
		case <-msg.Acked():
			acked = true
		case <-msg.Nacked():
		}
		d.end(j.work)
		if acked {
			return true
		}
		if !pause(j.work.msg.Context(), ctx.Done(), wait) {
			return false
		}
	}
	return false
}

// pause reports false when the message's context ended or, with it, the process is about to.
func pause(ctx context.Context, draining <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-draining:
		return false
	case <-ctx.Done():
		return false
	}
}
