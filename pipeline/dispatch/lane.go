package dispatch

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// Pauses of a lane whose delivery could neither end nor be stored: a store is away.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	heldPause  = 20 * time.Millisecond
)

// action is one topic and its lanes.
type action struct {
	observer, name, topic string
	ordered               bool
	out                   chan *message.Message
	share                 *share      // of the slots; nil: no limit
	down                  func() bool // whether its endpoint is known to be down; may be nil

	mu    sync.Mutex // guards lanes and the jobs in them
	lanes map[string]*job
}

// job is one delivery on its way. Jobs of one lane are linked: next is the one to run when this one has settled.
type job struct {
	work     *work
	delivery *event.Delivery
	action   *action
	rest     []*action // actions that follow this one, for a sequential observer
	lane     string
	ordered  bool
	pause    time.Duration // before the next attempt, when this one is nacked
	parked   bool          // it comes from the retry queue
	began    time.Time     // when it got its slot, where a share counts that; guarded by shares
	next     *job
	last     *job // of the lane; kept by the job that runs
}

func newAction(o Observer, name string) *action {
	return &action{observer: o.Name, name: name, topic: Topic(o.Name, name), ordered: !o.Unordered, out: make(chan *message.Message), lanes: map[string]*job{}}
}

// newJob takes a delivery for an action; the rest follow it.
func newJob(w *work, d *event.Delivery, a *action, rest []*action) *job {
	j := &job{work: w, delivery: d, action: a, rest: rest, pause: firstPause}
	// An event without an entity id is about no entity that others are about, so it has nothing to keep in order with.
	if j.ordered = a.ordered && d.Event.EntityID != ""; j.ordered {
		j.lane = d.Event.Key()
	}
	return j
}

func (a *action) delivery(w *work) *event.Delivery {
	d := &event.Delivery{Event: w.event, Observer: a.observer, Action: a.name, Generation: w.generation}
	if a.ordered && w.event.EntityID != "" && w.generation == 0 { // a replay is late in any case
		d.Lane = w.event.Key()
	}
	return d
}

// enqueue starts j, or puts it behind the running job of its lane. Where earlier ones of the lane are parked, start sends it
// after them.
func (d *Dispatcher) enqueue(ctx context.Context, j *job) {
	d.jobs.Add(1)
	if j.ordered && j.action.join(j) {
		return
	}
	if j.work.actions == nil {
		d.start(ctx, j, true)
		return
	}
	go d.start(ctx, j, true) // it may wait for another action of its own event; counted in jobs
}

// join reports whether the lane is running, and then j stands at its end.
func (a *action) join(j *job) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := a.lanes[j.lane]
	if running == nil {
		j.last = j
		a.lanes[j.lane] = j
		return false
	}
	running.last.next = j
	running.last = j
	return true
}

// leave takes the settled job from the lane and returns the next one.
func (j *job) leave() *job {
	if !j.ordered {
		return nil
	}
	a := j.action
	a.mu.Lock()
	defer a.mu.Unlock()
	if j.next == nil {
		delete(a.lanes, j.lane)
		return nil
	}
	j.next.last = j.last
	a.lanes[j.lane] = j.next
	return j.next
}

// start hands j to its handler as soon as it may run. What must be left to the next process leaves the whole lane behind it
// to that as well, which alive = false says from the start.
func (d *Dispatcher) start(ctx context.Context, j *job, alive bool) {
	for ; j != nil; j = j.leave() {
		if alive && !j.parked {
			if due, follows := d.parked.follow(j.delivery); follows {
				d.spills.put(j, due)
				continue
			}
		}
		if alive {
			entered, waits := d.shares.enter(j)
			if waits {
				return
			}
			if !entered {
				now := time.Now()
				d.parked.expect(j.delivery, now)
				d.spills.put(j, now)
				continue
			}
		}
		if d.run(ctx, j, alive) {
			return
		}
		alive = false
	}
}

// run hands j, which has entered its share, to its handler. It reports false when j had to be left to the next process.
func (d *Dispatcher) run(ctx context.Context, j *job, alive bool) bool {
	if alive {
		if d.begin(ctx, j.work) {
			d.shares.acquired(j)
			if d.hand(ctx, j) {
				return true
			}
			d.end(j.work)
		}
		d.leaveShare(ctx, j)
	}
	d.settle(ctx, j, false)
	return false
}

// leaveShare gives back what shares.enter gave, and starts those whose turn it is now.
func (d *Dispatcher) leaveShare(ctx context.Context, j *job) {
	for _, next := range d.shares.leave(j) {
		go func() { // counted in jobs
			if !d.run(ctx, next, true) {
				d.start(ctx, next.leave(), false)
			}
		}()
	}
}

// running is the context of a message that a handler has.
type running struct {
	context.Context
	d   *Dispatcher
	ctx context.Context // of Run
	job *job
}

type runningKey struct{}

// Value implements context.Context.
func (r *running) Value(key any) any {
	if key == (runningKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// hand gives j to its handler, whose middleware [Dispatcher.Settle] goes on with it. It reports false when the topics are
// closed.
func (d *Dispatcher) hand(ctx context.Context, j *job) bool {
	msg := j.work.msg
	if j.work.actions != nil || j.pause > firstPause || !window.IsDirect(j.work.ctx) { // else nobody else has this message
		msg = message.NewMessage(j.delivery.Event.ID, j.work.msg.Payload)
	}
	msg.SetContext(&running{event.NewContext(j.work.ctx, j.delivery), d, ctx, j})
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return false
	}
	select {
	case j.action.out <- msg:
		return true
	case <-j.work.ctx.Done():
		return false
	}
}

// Settle is the outermost middleware of every handler that subscribes to a Dispatcher: it goes on with the lane, or tries
// again later what came out as an error.
func (d *Dispatcher) Settle(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		growStack()
		r, ours := msg.Context().Value(runningKey{}).(*running)
		msgs, err := next(msg)
		if ours {
			d.finished(r, err == nil)
		}
		return msgs, err
	}
}

// growStack makes the stack of a goroutine as large as middleware and action need, while little is on it that has to be moved:
// the router starts a goroutine for each delivery, whose stack would grow deep down in it.
//
//go:noinline
func growStack() {
	var room [4 << 10]byte
	runtime.KeepAlive(&room)
}

func (d *Dispatcher) finished(r *running, ok bool) {
	j := r.job
	d.end(j.work)
	d.leaveShare(r.ctx, j)
	if !ok {
		go d.again(r.ctx, j) // counted in jobs
		return
	}
	d.settle(r.ctx, j, true)
	d.start(r.ctx, j.leave(), true)
}

// again starts j anew after a pause.
func (d *Dispatcher) again(ctx context.Context, j *job) {
	alive := pause(j.work.ctx, ctx.Done(), j.pause)
	j.pause = min(2*j.pause, lastPause)
	d.start(ctx, j, alive)
}

// settle ends a job, done or left to the next process. A sequential observer's next action follows before the lane goes
// on, so that order holds there too.
func (d *Dispatcher) settle(ctx context.Context, j *job, ok bool) {
	defer d.jobs.Done()
	if ok && j.parked {
		d.parked.remove(j.delivery)
	}
	switch {
	case len(j.rest) > 0 && ok:
		d.enqueue(ctx, newJob(j.work, j.rest[0].delivery(j.work), j.rest[0], j.rest[1:]))
	case len(j.rest) > 0:
		j.work.done(len(j.rest), false)
	}
	if ok {
		j.work.settle(j.action)
		return
	}
	j.work.done(1, false)
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
