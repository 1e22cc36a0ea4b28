package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
)

// workerBatch is how many events a worker asks the server for at a time, so that the others find some too.
const workerBatch = 256

// carrier is a transport that several workers share.
type carrier struct {
	events window.Driver
	halves bool // a batch is asked for in two halves, of which one is handed over meanwhile
	queue  parkedQueue
	dead   deadLetters
	ahead  func(context.Context) (n int64, age time.Duration, err error) // what is published and not settled
	lag    func(context.Context) (nats.Lag, error)                       // of its consumer; nil: there is none to ask
	dedup  func() (store middleware.DedupStore, end func())              // its own store; nil: it has none, and the file names a Redis
	group  *nats.Group                                                   // events, when each worker has partitions of its own; else nil
}

type parkedQueue interface {
	retryQueue
	window.Driver
	Waiting(ctx context.Context) (n int64, oldest time.Duration, err error)
}

// fencedQueue takes nothing from a worker whose partitions may belong to another: that one must know what is parked.
type fencedQueue struct {
	parkedQueue

	held func() bool
}

// Park implements middleware.RetryQueue.
func (q fencedQueue) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	if !q.held() {
		return errLeaseNotRenewed
	}
	return q.parkedQueue.Park(ctx, d, notBefore)
}

type deadLetters interface {
	middleware.DeadLetters
	Waiting(ctx context.Context) (n int, oldest time.Duration, err error)
}

// work runs the observers on what comes through a carrier, beside other workers, until ctx ends.
func (p *Pipeline) work(ctx context.Context, c carrier) error {
	perf := p.plan.cfg.Performance
	batch := workerBatch
	if c.halves {
		batch /= 2
	}
	events, err := p.over(c.events, window.Config{Size: perf.ChannelCapacity, Batch: min(batch, perf.ChannelCapacity), Ahead: c.halves})
	if err != nil {
		return err
	}
	parked, err := p.over(c.queue, window.Config{Size: parkedAhead, Batch: parkedAhead})
	if err != nil {
		return err
	}
	dedup, err := p.openDedup(c.dedup)
	if err != nil {
		return err
	}
	defer dedup.close()
	working := "working"
	p.worker.Store(&working)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var beside sync.WaitGroup
	beside.Go(func() { p.report(running, &p.stats.events, c.figures) })
	beside.Go(func() { p.watchDeadLetters(running, c.dead.Waiting) })
	w := wiring{sources: []source{{"*", events}, {"retries", parked}}, retryQueue: c.queue, deadLetters: c.dead, dedup: dedup}
	if c.group != nil {
		w.held, w.retryQueue = c.group.Held, fencedQueue{c.queue, c.group.Held}
		beside.Go(func() { p.forgetParked(running, c.queue.Lanes) })
		beside.Go(func() { p.probe(running, leaseCheck, leaseFix, c.leased) })
	}
	err = p.serve(ctx, w)
	cancel()
	beside.Wait()
	return err
}

// leased reports an error while this worker may start nothing.
func (c carrier) leased(context.Context) error {
	if c.group.Held() {
		return nil
	}
	return errLeaseNotRenewed
}

// figures asks for the state of a carrier.
func (c carrier) figures(ctx context.Context) (f figures, err error) {
	backlog, age, err := c.ahead(ctx)
	f.backlog, f.age = backlog, age
	letters, _, letterErr := c.dead.Waiting(ctx)
	f.dead = int64(letters)
	var parkedErr, lagErr error
	f.parked, f.parkedAge, parkedErr = c.queue.Waiting(ctx)
	if c.lag != nil {
		var lag nats.Lag
		lag, lagErr = c.lag(ctx)
		f.consumer = &lag
	}
	if c.group != nil {
		f.partitions = &PartitionsStatus{Owned: c.group.Owned(), Owners: c.group.Owners()}
	}
	return f, errors.Join(err, letterErr, parkedErr, lagErr)
}
