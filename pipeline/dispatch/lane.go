package dispatch

import (
	"context"
	"log/slog"
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
	// lastMoment is how long a handler may go on after its message's context was cancelled. What ignores that is left
	// behind, with its slot.
	lastMoment = time.Second
)

// action is one topic and its lanes.
type action struct {
	observer, name, topic string
	ordered               bool
	out                   chan *message.Message

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
	return &action{observer: o.Name, name: name, topic: Topic(o.Name, name), ordered: !o.Unordered, out: make(chan *message.Message), lanes: map[string]*job{}}
}

func (a *action) delivery(w *work) *event.Delivery {
	return &event.Delivery{Event: w.event, Observer: a.observer, Action: a.name, Generation: w.generation}
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
		d.enqueue(ctx, &job{work: j.work, delivery: j.rest[0].delivery(j.work), action: j.rest[0], rest: j.rest[1:]})
	} else if len(j.rest) > 0 {
		j.work.done(len(j.rest), false)
	}
	if ok {
		j.work.settle(j.action)
		return
	}
	j.work.done(1, false)
}

// deliver hands j to its handler until that settles it. It reports false when the process ends first.
func (d *Dispatcher) deliver(ctx context.Context, j *job) bool {
	for wait := firstPause; d.begin(ctx, j.work); wait = min(2*wait, lastPause) {
		msg := message.NewMessageWithContext(event.NewContext(j.work.msg.Context(), j.delivery), j.delivery.Event.ID, j.work.msg.Payload)
		switch hand(msg, j.action.out) {
		case acked:
			d.end(j.work)
			return true
		case ignored:
			d.cfg.Log.Error("an action goes on although its time is up: it is left behind", slog.String("observer", j.delivery.Observer),
				slog.String("action", j.delivery.Action), slog.String("event_id", j.delivery.Event.ID))
			return false
		case nacked:
			d.end(j.work)
		}
		if !pause(j.work.msg.Context(), ctx.Done(), wait) {
			return false
		}
	}
	return false
}

// reply is what became of a message that was handed to its handler.
type reply int

const (
	acked reply = iota
	nacked
	ignored // neither, although the message's context was cancelled
)

func hand(msg *message.Message, out chan<- *message.Message) reply {
	dead := msg.Context().Done()
	select {
	case out <- msg:
	case <-dead:
		return nacked
	}
	select {
	case <-msg.Acked():
		return acked
	case <-msg.Nacked():
		return nacked
	case <-dead:
	}
	last := time.NewTimer(lastMoment)
	defer last.Stop()
	select {
	case <-msg.Acked():
		return acked
	case <-msg.Nacked():
		return nacked
	case <-last.C:
		return ignored
	}
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
