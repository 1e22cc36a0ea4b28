package nats

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/lease"
	"github.com/fraiseql/observer/internal/outage"
)

// run keeps the lease and changes what this worker owns, until ctx ends or the lease does. Nothing is taken after full.
func (g *Group) run(ctx context.Context, full <-chan struct{}) {
	trouble := outage.New(g.cfg.Log, "cannot renew the lease of this worker", "lease renewed again")
	for {
		err := g.member.join(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		trouble.Failed(err)
		pause(ctx, lease.Renew)
	}
	err := g.keep(ctx, full, trouble)
	if errors.Is(err, errDeposed) {
		g.member.trust.End()
		close(g.lost)
		g.cfg.Log.Error("deposed: other workers took this one for dead", slog.String("worker", g.member.id))
	}
}

func (g *Group) keep(ctx context.Context, full <-chan struct{}, trouble *outage.Log) error {
	var watcher jetstream.KeyWatcher
	var updates <-chan jetstream.KeyValueEntry
	defer func() {
		if watcher != nil {
			_ = watcher.Stop() // the connection may be gone
		}
	}()
	due := time.NewTimer(lease.Renew)
	defer due.Stop()
	for {
		var err error
		if updates == nil {
			if watcher, err = g.member.bucket.WatchFiltered(ctx, []string{g.member.prefix + ">"}); err == nil {
				updates = watcher.Updates()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.changed:
		case entry, ok := <-updates:
			if !ok {
				updates, watcher = nil, nil
				break
			}
			err = g.member.apply(entry)
		case <-due.C:
			err = g.member.renew(ctx)
			due.Reset(pick(err == nil, lease.Renew, lease.Retry))
			if err == nil {
				trouble.OK()
			}
		}
		if err == nil {
			err = g.balance(ctx, full)
		}
		if errors.Is(err, errDeposed) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			trouble.Failed(err)
		}
	}
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// balance brings what this worker owns nearer to its share.
func (g *Group) balance(ctx context.Context, full <-chan struct{}) error {
	m := g.member
	if !m.complete || !m.trust.Held() {
		return nil
	}
	m.bury(ctx)
	if err := g.lostAny(); err != nil {
		return err
	}
	next := m.owners.without(m.gone)
	done := g.leftParts()
	for _, i := range done {
		next[i] = ""
	}
	share := next.share(m.id, m.members())
	select {
	case <-full:
	default:
		next.claim(m.id, share)
	}
	if err := m.assign(ctx, next); err != nil {
		if exists(err) {
			return nil // what the other one wrote is about to be seen
		}
		return err
	}
	owners := m.owners
	g.owners.Store(&owners)
	g.openParts(ctx, done)
	g.leaveParts(ctx, share)
	return nil
}

// lostAny reports an error when a partition that this worker has belongs to another.
func (g *Group) lostAny() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.parts {
		if p.state != left && g.member.owners[i] != g.member.id {
			return errDeposed
		}
	}
	return nil
}

// leftParts lists what this worker has left and not given back yet.
func (g *Group) leftParts() (list []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.parts {
		if p.state == left && g.member.owners[i] == g.member.id {
			list = append(list, i)
		}
	}
	return list
}

// openParts takes up what belongs to this worker, perhaps some of what it is done with again.
func (g *Group) openParts(ctx context.Context, done []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range done {
		delete(g.parts, i)
	}
	var list []int
	for _, i := range g.member.owners.of(g.member.id) {
		if g.parts[i] == nil {
			g.parts[i] = &part{}
			list = append(list, i)
		}
	}
	if len(list) > 0 {
		g.cfg.Log.Info("partitions taken", slog.Any("partitions", list))
		g.beside.Go(func() { g.open(ctx, list) })
	}
}

func (g *Group) open(ctx context.Context, list []int) {
	trouble := outage.New(g.cfg.Log, "partitions cannot be opened, will try again", "partitions are open")
	for g.cfg.Taken != nil {
		err := g.cfg.Taken(ctx)
		if err == nil {
			trouble.OK()
			break
		}
		if ctx.Err() != nil {
			return
		}
		trouble.Failed(err)
		pause(ctx, lease.Renew)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range list {
		g.parts[i].driver, g.parts[i].state = g.driver(i), open
	}
	g.changed.set()
	g.fetchable.set()
}

// driver reads one partition.
func (g *Group) driver(partition int) *Driver {
	t := g.cfg.Topology
	d, _ := NewDriver(DriverConfig{Topology: t, Tracked: g.cfg.Tracked, Log: g.cfg.Log}) // which has its Topology
	d.name = consumers(t.cfg.ConsumerName, t.cfg.JetStream.Partitions)[partition]
	d.consumer = func(ctx context.Context) (jetstream.Consumer, error) {
		return t.partition(ctx, t.cfg.ConsumerName, partition)
	}
	d.order, d.turns, d.fetchable = newOrder(), g.turns, g.fetchable
	return d
}

// leaveParts lets go of what is more than the share.
func (g *Group) leaveParts(ctx context.Context, share int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var staying []int
	for _, i := range slices.Sorted(maps.Keys(g.parts)) {
		if s := g.parts[i].state; s == open || s == opening {
			staying = append(staying, i)
		}
	}
	var list []int
	for _, i := range slices.Backward(staying) {
		if len(staying)-len(list) > share && g.parts[i].state == open {
			p := g.parts[i]
			p.state = leaving
			list = append(list, i)
			g.beside.Go(func() { g.leave(ctx, p) })
		}
	}
	if len(list) > 0 {
		g.cfg.Log.Info("partitions are given to other workers", slog.Any("partitions", list))
	}
}

// leave gives back what has not begun, and waits for the rest.
func (g *Group) leave(ctx context.Context, p *part) {
	d := p.driver
	d.revoked.Store(true)
	d.retire()
	for !d.empty() {
		select {
		case <-ctx.Done():
			return // Close goes on with it
		case <-d.emptied:
		}
	}
	if err := d.Close(ctx); err != nil {
		g.cfg.Log.Warn("a partition is given away although what was acked last may come again", slog.Any("error", err))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.state = left
	g.changed.set()
}

func (d *Driver) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.out) == 0
}
