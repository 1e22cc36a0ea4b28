package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/window"
)

const (
	// groupAhead is how many events are asked for at a time, over all partitions, and leastAhead how many for each.
	groupAhead = 512
	leastAhead = 32
)

// GroupConfig describes a [Group]. Topology is required, with partitions.
type GroupConfig struct {
	Topology *Topology
	Tracked  bool // as in DriverConfig
	// Taken is called, and again until it succeeds, after partitions were taken and before one of their events is handed out.
	Taken func(ctx context.Context) error
	Log   *slog.Logger
}

// Group is the driver of a worker that shares the partitions of a consumer with others: of each partition one worker at a
// time hands events out, in the order of the stream. The workers have equal shares. A worker that joins gets partitions once
// what others have begun of them has ended; those of one that died are taken after its lease, and what it had in hand comes
// first, see order.go.
type Group struct {
	cfg       GroupConfig
	member    *membership
	turns     *turns
	fetchable signal
	changed   signal // a partition was opened, or is left
	lost      chan struct{}
	owners    atomic.Pointer[assignment]

	once   sync.Once
	stop   context.CancelFunc // ends the loop
	beside sync.WaitGroup     // the loop, and what opens and leaves partitions
	last   int                // whose turn it was to be asked first; used by Fetch only

	mu    sync.Mutex // guards what follows
	parts map[int]*part
}

// part is a partition that this worker owns.
type part struct {
	driver *Driver
	state  partState
}

type partState int

const (
	opening partState = iota // nothing is handed out yet
	open
	leaving // nothing more is handed out
	left    // nothing of it is in our hands
)

var _ window.Driver = (*Group)(nil)

// OpenGroup creates the bucket of the workers where it is missing. Nothing else happens before the first Fetch, whose
// context says for how long partitions are taken.
func OpenGroup(ctx context.Context, cfg GroupConfig) (*Group, error) {
	if cfg.Topology == nil || cfg.Topology.cfg.JetStream.Partitions == 0 {
		return nil, errors.New("nats group: a Topology with partitions is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := cfg.Topology.cfg
	name := c.StreamName + "_partitions"
	bucket, err := cfg.Topology.JS.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: name, Description: "workers and their partitions, by consumer", LimitMarkerTTL: memberTTL,
		History: 1, Storage: jetstream.FileStorage, Replicas: max(c.JetStream.Replicas, 1),
	})
	if err != nil {
		return nil, wrap("bucket "+name, err)
	}
	return &Group{
		cfg: cfg, member: newMembership(bucket, c.ConsumerName, c.JetStream.Partitions, cfg.Log), turns: &turns{},
		fetchable: make(signal, 1), changed: make(signal, 1), lost: make(chan struct{}), parts: map[int]*part{},
	}, nil
}

// Held reports whether this worker may start actions: it renewed its lease within the last three seconds. It is cheap.
func (g *Group) Held() bool { return g.member.trust.Held() }

// Lost is closed when the other workers have taken this one for dead. Close it, and open another.
func (g *Group) Lost() <-chan struct{} { return g.lost }

// Owned lists the partitions whose events this worker hands out.
func (g *Group) Owned() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := []int{}
	for _, i := range slices.Sorted(maps.Keys(g.parts)) {
		if g.parts[i].state == open {
			list = append(list, i)
		}
	}
	return list
}

// Owners lists the partitions of each worker of the consumer, by its name; those of nobody are left out.
func (g *Group) Owners() map[string][]int {
	workers := map[string][]int{}
	if owners := g.owners.Load(); owners != nil {
		for i, owner := range *owners {
			if owner != "" {
				workers[owner] = append(workers[owner], i)
			}
		}
	}
	return workers
}

// Fetch implements window.Driver.
func (g *Group) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	g.once.Do(func() {
		var run context.Context
		run, g.stop = context.WithCancel(context.WithoutCancel(ctx))
		g.beside.Go(func() { g.run(run, ctx.Done()) })
	})
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("fetch from partitions: %w", err)
		}
		items, err := g.poll(ctx, limit)
		if err != nil || len(items) > 0 {
			return items, err
		}
		select {
		case <-ctx.Done():
		case <-g.fetchable:
		}
	}
}

// poll asks each partition, another one first each time.
func (g *Group) poll(ctx context.Context, limit int) (all []window.Item, err error) {
	drivers := g.drivers()
	g.last++
	for i := range drivers {
		d := drivers[(g.last+i)%len(drivers)]
		err := d.receive(ctx, max(leastAhead, groupAhead/len(drivers)))
		if err == nil {
			err = d.failed()
		}
		var items []window.Item
		if err == nil {
			items, err = d.poll(ctx, limit-len(all))
		}
		all = append(all, items...)
		if err != nil {
			return all, err
		}
		if len(all) == limit {
			g.fetchable.set() // the others were not asked
			break
		}
	}
	return all, nil
}

func (g *Group) drivers() []*Driver {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*Driver, 0, len(g.parts))
	for _, i := range slices.Sorted(maps.Keys(g.parts)) {
		if p := g.parts[i]; p.state == open {
			list = append(list, p.driver)
		}
	}
	return list
}

// Ack implements window.Driver.
func (g *Group) Ack(ctx context.Context, list []window.Item) error {
	byDriver := map[*Driver][]window.Item{}
	for _, item := range list {
		if e, ok := item.Raw.(*entry); ok {
			byDriver[e.driver] = append(byDriver[e.driver], item)
		}
	}
	var failed error
	for d, items := range byDriver {
		failed = errors.Join(failed, d.Ack(ctx, items))
	}
	return failed
}

// Nack implements window.Driver.
func (g *Group) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	e, ok := item.Raw.(*entry)
	if !ok {
		return nil
	}
	return e.driver.Nack(ctx, item, delay)
}

// Close implements window.Driver: it gives back the partitions, unless they belong to others already.
func (g *Group) Close(ctx context.Context) error {
	g.once.Do(func() {}) // nothing begins any more
	if g.stop == nil {
		return nil
	}
	g.stop()
	g.beside.Wait()
	failed := make([]error, g.cfg.Topology.cfg.JetStream.Partitions)
	var closing sync.WaitGroup
	for i, p := range g.parts {
		if p.driver != nil && p.state != left {
			closing.Go(func() { failed[i] = p.driver.Close(ctx) })
		}
	}
	closing.Wait()
	err := errors.Join(failed...)
	if g.member.revision == 0 || g.member.trust.Ended() {
		return err
	}
	return errors.Join(err, wrap("give partitions back, which others take after the lease", g.member.leave(ctx)))
}
