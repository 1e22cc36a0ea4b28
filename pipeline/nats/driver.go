package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/window"
)

// flushTimeout is how long Close waits for the server to confirm the acks, and a start for the server to note it.
const flushTimeout = 5 * time.Second

// DriverConfig describes a [Driver].
type DriverConfig struct {
	Topology *Topology // required
	// Group is the consumer. Default: the consumer_name of the configuration.
	Group string
	// Topic is an entity. Default [AllTopics].
	Topic string
	// Tracked says that whoever handles the events tells their window.Tracker. Otherwise being handed out counts as a start.
	Tracked bool
	// Opaque says that the messages need not be events. Otherwise one that is none is handed out as poison.
	Opaque bool
	Log    *slog.Logger
}

// Driver reads a durable consumer: it asks the server for as many messages as Fetch may return and no more, so that other
// workers get the rest, and keeps what is out from being delivered again. What it acked is told the server until that
// confirms it.
type Driver struct {
	cfg      DriverConfig
	conn     *natsgo.Conn
	ackWait  time.Duration
	starts   starts
	turns    *turns
	name     string // of the consumer
	consumer func(context.Context) (jetstream.Consumer, error)

	flushTimeout time.Duration // tests have others

	once    sync.Once
	unable  error              // why it could not
	stop    context.CancelFunc // ends what runs beside
	beside  sync.WaitGroup
	inbox   string // before the place, where the server answers
	answers *natsgo.Subscription

	mu       sync.Mutex       // guards what follows
	queue    []*entry         // received, not handed out
	out      map[place]*entry // of those and of what was handed out, what is not settled
	order    *order           // nil: other readers have the consumer as well
	want     int              // how many Fetch may return
	pulling  chan struct{}    // closed when the goroutine that receives has ended; nil without one
	stopPull context.CancelFunc
	failure  error // of receiving, for Fetch to return
	sent     bool  // something that the server may not have read, and does not confirm

	acks        []ack // to be sent with the next burst
	unconfirmed map[place]*unconfirmed
	crossing    map[place]time.Time // confirmed, and perhaps on the way once more until then

	fetchable signal      // Fetch has something to return
	wanted    signal      // want has changed
	gapped    signal      // something may be missing
	emptied   signal      // nothing is out
	acked     signal      // there are acks to be sent
	confirmed signal      // nothing is unconfirmed
	revoked   atomic.Bool // what has not begun is to be given back
}

// entry is one message that the server has delivered to us and that is not settled.
type entry struct {
	driver    *Driver
	at        place
	raw       jetstream.Msg // as it was delivered last; guarded by the driver's mu
	item      window.Item
	id        string
	delivered uint64 // how often the server has delivered it
	judged    bool   // prior is known
	prior     int    // starts without an outcome
	marked    bool   // a start is noted on the server
}

// signal wakes one goroutine; further signals before it looks are one.
type signal chan struct{}

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

var _ window.Driver = (*Driver)(nil)

// NewDriver returns a Driver. It asks the server for nothing before the first Fetch.
func NewDriver(cfg DriverConfig) (*Driver, error) {
	if cfg.Topology == nil {
		return nil, errors.New("nats driver: Topology is required")
	}
	if cfg.Group == "" {
		cfg.Group = cfg.Topology.cfg.ConsumerName
	}
	if cfg.Topic == "" {
		cfg.Topic = AllTopics
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	js := cfg.Topology.cfg.JetStream
	return &Driver{
		cfg: cfg, conn: cfg.Topology.conn, ackWait: cfg.Topology.cfg.ackWait(), turns: &turns{}, name: consumer(cfg.Group, cfg.Topic), flushTimeout: flushTimeout,
		consumer: func(ctx context.Context) (jetstream.Consumer, error) {
			return cfg.Topology.Consumer(ctx, cfg.Group, cfg.Topic)
		},
		starts: newStarts(cfg.Topology.Starts, consumer(cfg.Group, cfg.Topic), js.MaxDeliver),
		out:    map[place]*entry{}, unconfirmed: map[place]*unconfirmed{}, crossing: map[place]time.Time{},
		fetchable: make(signal, 1), wanted: make(signal, 1), gapped: make(signal, 1), emptied: make(signal, 1), acked: make(signal, 1), confirmed: make(signal, 1),
	}, nil
}

// Fetch implements window.Driver. When its ctx ends, what was received and not returned goes back to the server at once.
func (d *Driver) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		items, err := d.poll(ctx, limit)
		if err != nil || len(items) > 0 {
			return items, err
		}
		if err := d.await(ctx, limit); err != nil {
			return nil, fmt.Errorf("fetch from %s: %w", d.cfg.Topology.cfg.StreamName, err)
		}
	}
}

// poll returns what is there.
func (d *Driver) poll(ctx context.Context, limit int) ([]window.Item, error) {
	if err := d.begin(ctx); err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", d.cfg.Topology.cfg.StreamName, err)
	}
	if err := d.judge(ctx); err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", d.cfg.Topology.cfg.StreamName, err)
	}
	list := d.take(limit)
	if err := d.mark(ctx, list); err != nil {
		d.putBack(list)
		return nil, fmt.Errorf("fetch from %s: %w", d.cfg.Topology.cfg.StreamName, err)
	}
	return d.items(ctx, list), nil
}

// begin starts, once, what goes on beside Fetch. Close ends it.
func (d *Driver) begin(ctx context.Context) error {
	d.once.Do(func() {
		if d.unable = d.listen(); d.unable != nil {
			return
		}
		var run context.Context
		run, d.stop = context.WithCancel(context.WithoutCancel(ctx))
		d.beside.Go(func() { d.heartbeat(run) })
		d.beside.Go(func() { d.sendAll(run) })
		d.beside.Go(func() { d.repeatAcks(run) })
	})
	return d.unable
}

func (d *Driver) items(ctx context.Context, list []*entry) []window.Item {
	all := make([]window.Item, len(list))
	for i, e := range list {
		if d.order != nil {
			e.item.Msg.SetContext(window.WithRevoked(e.item.Msg.Context(), &d.revoked))
		}
		if d.cfg.Tracked && d.starts.counts(e) && !d.starts.alone(e) {
			e.item.Msg.SetContext(window.WithTracker(e.item.Msg.Context(), tracker{d, e, context.WithoutCancel(ctx)}))
		}
		all[i] = e.item
	}
	return all
}

// await returns when something may be there to return.
func (d *Driver) await(ctx context.Context, limit int) error {
	if err := d.receive(ctx, limit); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.fetchable:
		return d.failed()
	}
}

func (d *Driver) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.failure
	d.failure = nil
	if err != nil && IsFatal(err) {
		return window.Fatal(err)
	}
	return err
}

// take takes from the queue what may be handed out. One that must run alone waits until nothing else runs, and all wait
// for it.
func (d *Driver) take(limit int) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order != nil && d.order.gap {
		return nil
	}
	var list []*entry
	for len(list) < limit && len(d.queue) > 0 {
		e := d.queue[0]
		if e.unjudged() || !d.turns.begin(e, d.starts.alone(e)) {
			break
		}
		d.queue = d.queue[1:]
		list = append(list, e)
	}
	return list
}

func (d *Driver) putBack(list []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(list, d.queue...)
	for _, e := range list {
		d.turns.end(e)
	}
}

// letGo notes that e is out no more.
func (d *Driver) letGo(e *entry) {
	delete(d.out, e.at)
	if len(d.out) == 0 {
		d.emptied.set()
	}
}
