package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// Config describes a [Dispatcher]. Observers is required; a hook that is nil is not called.
type Config struct {
	Observers []Observer
	// MaxConcurrency is how many events are in work at the same time. Default 50.
	MaxConcurrency int
	// MaxConcurrentActions is how many actions of one event run at the same time. Default 10.
	MaxConcurrentActions int
	// Held says whether this process may start actions now; while it is false, deliveries wait.
	Held func() bool
	// Endpoint names what an action reaches, such as one HTTP server, and says whether it is known to be down. Actions that
	// reach the same share its part of the slots. nil, or the name "": nothing that could be slow.
	Endpoint func(observer, action string) (name string, down func() bool)
	// Spill stores deliveries that have to wait in the retry queue, in their order, durably when it returns nil. One that is
	// there already stays as it is. Required where there is an Endpoint, or a lane is parked.
	Spill func(ctx context.Context, list []Spilled) error
	// Lanes are those of which deliveries are in the retry queue at the start.
	Lanes []Lane
	// DeadLetter stores an event that cannot be dispatched at all, durably when it returns nil. Required.
	DeadLetter func(ctx context.Context, d *event.Delivery) error
	// Settled is called when every delivery of an event has settled.
	Settled func(e *event.Event)
	Log     *slog.Logger
}

// Observer says which events its actions are to get.
type Observer struct {
	Name   string
	Entity string     // "*" is every entity
	Type   event.Type // "" is every type
	// Match is the condition; nil matches every event. An error counts as no match.
	Match func(*event.Event) (bool, error)
	// Requires is what an event must have for Match not to be false without an error; nil when nothing is known.
	Requires *Requirement
	// Matched is called for each event whose entity and type fit, but for those that [Dispatcher.CountSkipped] tells of.
	Matched func(matched bool, err error)
	// Skipped is told how many events more did not match because they have not what is required.
	Skipped func(events int64)
	// Unordered lets deliveries of one entity to one action overtake each other.
	Unordered bool
	// Sequential runs the actions one after the other, in their order.
	Sequential bool
	Actions    []string
}

// Dispatcher is a message.Subscriber; see the package comment. The outermost middleware of every handler that subscribes to
// it must be [Dispatcher.Settle].
type Dispatcher struct {
	cfg     Config
	index   *index
	actions map[string]*action
	slots   chan struct{}
	shares  shares
	parked  *parkedLanes
	spills  spills
	jobs    sync.WaitGroup // deliveries that have not settled

	closing sync.RWMutex // guards closed; held for reading while something is sent to a topic
	closed  bool
}

var _ message.Subscriber = (*Dispatcher)(nil)

// Topic names the topic of an observer's action.
func Topic(observer, action string) string { return observer + "/" + action }

// New returns a Dispatcher.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.DeadLetter == nil {
		return nil, errors.New("dispatch: DeadLetter is required")
	}
	if cfg.MaxConcurrency <= 0 {
		cfg.MaxConcurrency = 50
	}
	if cfg.MaxConcurrentActions <= 0 {
		cfg.MaxConcurrentActions = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{cfg: cfg, actions: map[string]*action{}, slots: make(chan struct{}, cfg.MaxConcurrency), parked: newParkedLanes(cfg.Lanes), spills: spills{more: make(chan struct{}, 1)}}
	endpoints := map[string]*share{}
	routes := make([]*route, 0, len(cfg.Observers))
	for _, o := range cfg.Observers {
		r := &route{Observer: o}
		for _, name := range o.Actions {
			topic := Topic(o.Name, name)
			if d.actions[topic] != nil {
				return nil, fmt.Errorf("dispatch: two actions %q", topic)
			}
			a := newAction(o, name)
			if cfg.Endpoint != nil {
				endpoint, down := cfg.Endpoint(o.Name, name)
				a.share, a.down = shareOf(endpoints, endpoint), down
			}
			d.actions[topic] = a
			r.actions = append(r.actions, a)
		}
		routes = append(routes, r)
	}
	d.shares.slots, d.shares.unlimited = cfg.MaxConcurrency, len(endpoints) <= 1
	d.index = newIndex(routes)
	return d, nil
}

func shareOf(endpoints map[string]*share, endpoint string) *share {
	if endpoint != "" && endpoints[endpoint] == nil {
		endpoints[endpoint] = &share{}
	}
	return endpoints[endpoint]
}

// Subscribe implements message.Subscriber for the topics of [Topic]. The channel closes when [Dispatcher.Run] has drained.
func (d *Dispatcher) Subscribe(_ context.Context, topic string) (<-chan *message.Message, error) {
	a := d.actions[topic]
	if a == nil {
		return nil, fmt.Errorf("dispatch: no action %q", topic)
	}
	return a.out, nil
}

// Close implements message.Subscriber. What ends a Dispatcher is the end of its upstreams.
func (d *Dispatcher) Close() error { return nil }

// Run reads the upstreams until all are closed, waits for what is in work and closes every topic. From the end of ctx on
// no event begins that has not begun: it is nacked, for the next process.
func (d *Dispatcher) Run(ctx context.Context, upstreams ...<-chan *message.Message) {
	var pumps, spiller sync.WaitGroup
	drained := make(chan struct{})
	spiller.Go(func() { d.runSpiller(ctx, drained) })
	ends := make([]<-chan struct{}, len(upstreams))
	for i, up := range upstreams {
		pumps.Go(func() {
			for msg := range up {
				if ends[i] == nil {
					ends[i] = endOf(msg.Context())
				}
				d.dispatch(ctx, msg)
			}
		})
	}
	pumps.Wait()
	d.drain(ends)
	close(drained)
	spiller.Wait()
	d.closing.Lock()
	d.closed = true
	d.closing.Unlock()
	for _, a := range d.actions {
		close(a.out)
	}
}

// lastMoment is how long actions may go on after the contexts of all their messages have ended.
const lastMoment = time.Second

// endOf returns what closes when all messages of an upstream have to be done, by the context of one of them. Only those of
// a direct subscription have that in common.
func endOf(ctx context.Context) <-chan struct{} {
	if window.IsDirect(ctx) {
		return ctx.Done()
	}
	return make(chan struct{})
}

// drain waits for what is in work, but not for actions that ignore that their time is up. ends has an end for each upstream
// that had messages.
func (d *Dispatcher) drain(ends []<-chan struct{}) {
	idle := make(chan struct{})
	go func() {
		d.jobs.Wait()
		close(idle)
	}()
	for _, end := range ends {
		if end == nil {
			continue
		}
		select {
		case <-idle:
			return
		case <-end:
		}
	}
	last := time.NewTimer(lastMoment)
	defer last.Stop()
	select {
	case <-idle:
	case <-last.C:
		d.cfg.Log.Error("actions go on although their time is up: they are left behind")
	}
}

func (d *Dispatcher) dispatch(ctx context.Context, msg *message.Message) {
	if parked := event.FromContext(msg.Context()); parked != nil {
		d.resume(ctx, msg, parked)
		return
	}
	e, err := decode(msg)
	if err != nil {
		d.bury(ctx, msg, e, err)
		return
	}
	w := newWork(msg, e)
	w.settled = d.cfg.Settled
	d.route(ctx, w, d.match(e))
}

// route puts one delivery into the lane of each action; a sequential observer's later actions follow the first.
func (d *Dispatcher) route(ctx context.Context, w *work, wanted []*route) {
	n, lists := 0, make([][]*action, len(wanted)) // before the first begins, which may be done before the last is looked at
	for i, r := range wanted {
		lists[i] = w.left(r.actions)
		n += len(lists[i])
	}
	if n == 0 {
		window.Settle(w.ctx, w.msg, true)
		return
	}
	w.expect(n, d.cfg.MaxConcurrentActions)
	for i, actions := range lists {
		if wanted[i].Sequential && len(actions) > 0 {
			d.enqueue(ctx, newJob(w, actions[0].delivery(w), actions[0], actions[1:]))
			continue
		}
		for _, a := range actions {
			d.enqueue(ctx, newJob(w, a.delivery(w), a, nil))
		}
	}
}

// resume puts a parked delivery back into its lane.
func (d *Dispatcher) resume(ctx context.Context, msg *message.Message, parked *event.Delivery) {
	if reason := msg.Metadata.Get(metadataPoison); reason != "" {
		d.parked.remove(parked)
		d.store(ctx, msg, failed(parked, errors.New(reason), cmp.Or(msg.Metadata.Get(window.MetadataPoisonClass), "poison")))
		return
	}
	if parked.Observer == "" { // a replay of a whole event: who wants it now gets it
		w := newWork(msg, parked.Event)
		w.generation = parked.Generation
		d.route(ctx, w, d.match(parked.Event))
		return
	}
	a := d.actions[Topic(parked.Observer, parked.Action)]
	if a == nil {
		d.parked.remove(parked)
		d.store(ctx, msg, failed(parked, errUndeclared, "undeclared"))
		return
	}
	w := newWork(msg, parked.Event)
	w.expect(1, 1)
	j := newJob(w, parked, a, nil)
	j.parked = true
	d.enqueue(ctx, j)
}
