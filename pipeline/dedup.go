package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/redis"
)

// dedupLeases is how many attempts long the lease of a delivery is.
const dedupLeases = 2

// dedup is the deduplication of one run. A nil dedup is none.
type dedup struct {
	pipeline *Pipeline
	store    middleware.DedupStore
	report   func(error)
	end      func() error // stops what runs beside, and closes the store
}

// dedupUsesRedis reports whether the record of deliveries is in Redis: where the configuration names a server. Else it is where the
// transport is.
func (p *Plan) dedupUsesRedis() bool {
	return p.cfg.Performance.EnableDedup && p.cfg.Explicit("redis.url")
}

// openDedup returns the deduplication that the configuration asks for; own makes the transport's store. Redis may be away: then
// deliveries are not deduplicated until it answers.
func (p *Pipeline) openDedup(ctx context.Context, own func() (middleware.DedupStore, func())) (*dedup, error) {
	if !p.plan.cfg.Performance.EnableDedup {
		return nil, nil //nolint:nilnil // nil is one that does nothing
	}
	d := &dedup{pipeline: p, report: p.reportDedup()}
	if !p.plan.dedupUsesRedis() {
		store, end := own()
		d.store, d.end = middleware.NewDedupBreaker(store), func() error { end(); return nil }
		return d, nil
	}
	store, err := redis.OpenDedup(p.plan.cfg.Redis)
	if err != nil {
		return nil, err
	}
	d.store = middleware.NewDedupBreaker(store)
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { probeDedup(ctx, store, d.report) })
	d.end = func() error {
		cancel()
		beside.Wait()
		return store.Close()
	}
	return d, nil
}

const (
	dedupCheck = "dedup"
	dedupFix   = "everything is delivered meanwhile, some of it perhaps twice; check the store of deduplication"
)

// reportDedup returns what is told of each call of the store, nil when it answered. It is the one place that knows whether
// deduplication works.
func (p *Pipeline) reportDedup() func(error) {
	trouble := outage.New(p.log, "deliveries are not deduplicated while the store does not answer: some may come twice", "deliveries are deduplicated again")
	return func(err error) {
		if err != nil {
			p.health.Degrade(dedupCheck, err.Error(), dedupFix)
			trouble.Failed(err)
			return
		}
		p.health.OK(dedupCheck)
		trouble.OK()
	}
}

// probeDedup looks, until ctx ends, whether the store works, so that this shows also while nothing is delivered.
func probeDedup(ctx context.Context, store *redis.Dedup, report func(error)) {
	for {
		patience, cancel := context.WithTimeout(ctx, probeEvery)
		err := store.Probe(patience)
		cancel()
		if ctx.Err() != nil {
			return
		}
		report(err)
		if !pause(ctx, probeEvery) {
			return
		}
	}
}

// around returns the middleware for an action whose attempts take so long at most.
func (d *dedup) around(attempt time.Duration) message.HandlerMiddleware {
	if d == nil {
		return nil
	}
	return middleware.Dedup(middleware.DedupConfig{
		Store: d.store, Lease: dedupLeases * attempt, Window: time.Duration(d.pipeline.plan.cfg.Redis.DedupWindowSecs) * time.Second,
		Report: d.report, Metrics: &d.pipeline.metrics.Dedup, Log: d.pipeline.log,
	})
}

func (d *dedup) close() error {
	if d == nil {
		return nil
	}
	return d.end()
}

// checkDedup asks the server that deduplication needs.
func checkDedup(ctx context.Context, plan *Plan) []Check {
	if !plan.dedupUsesRedis() {
		return nil
	}
	check := Check{Name: "dedup", Detail: "Redis answers"}
	store, err := redis.OpenDedup(plan.cfg.Redis)
	if err != nil {
		check.Err = err
		return []Check{check}
	}
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	check.Err = errors.Join(store.Ping(limited), store.Close())
	return []Check{check}
}
