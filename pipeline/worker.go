package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
)

// workerBatch is how many events a worker asks the server for at a time, so that the others find some too.
const workerBatch = 256

// carrier is a transport that several workers share.
type carrier struct {
	events window.Driver
	queue  parkedQueue
	dead   deadLetters
	ahead  func(context.Context) (n int64, age time.Duration, err error) // what is published and not settled
	lag    func(context.Context) (nats.Lag, error)                       // of its consumer; nil: there is none to ask
	dedup  func() (store middleware.DedupStore, end func())              // its own store; nil: it has none, and the file names a Redis
}

type parkedQueue interface {
	retryQueue
	window.Driver
	Waiting(ctx context.Context) (n int64, oldest time.Duration, err error)
}

type deadLetters interface {
	middleware.DeadLetters
	Waiting(ctx context.Context) (n int, oldest time.Duration, err error)
}

// work runs the observers on what comes through a carrier, beside other workers, until ctx ends.
func (p *Pipeline) work(ctx context.Context, c carrier) error {
	perf := p.plan.cfg.Performance
	events, err := p.over(c.events, perf.ChannelCapacity, min(workerBatch, perf.ChannelCapacity))
	if err != nil {
		return err
	}
	parked, err := p.over(c.queue, parkedAhead, parkedAhead)
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
	err = p.serve(ctx, wiring{sources: []source{{"*", events}, {"retries", parked}}, retryQueue: c.queue, deadLetters: c.dead, dedup: dedup})
	cancel()
	beside.Wait()
	return err
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
	return f, errors.Join(err, letterErr, parkedErr, lagErr)
}
