package pipeline

import (
	"fmt"
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
	end      func() // closes the store
}

// openDedup returns the deduplication that the configuration asks for; own makes the transport's store. Redis may be away: then
// deliveries are not deduplicated until it answers.
func (p *Pipeline) openDedup(own func() (middleware.DedupStore, func())) (*dedup, error) {
	if !p.plan.cfg.Performance.EnableDedup {
		return nil, nil //nolint:nilnil // nil is one that does nothing
	}
	if !p.plan.dedupUsesRedis() {
		store, end := own()
		return &dedup{pipeline: p, store: middleware.NewDedupBreaker(store), report: p.reportDedup(), end: end}, nil
	}
	client, err := p.plan.redis()
	if err != nil {
		return nil, fmt.Errorf("open deduplication: %w", err)
	}
	store := redis.NewDedup(client, p.plan.redisTimeout())
	return &dedup{pipeline: p, store: middleware.NewDedupBreaker(store), report: p.reportRedis, end: store.Close}, nil
}

const (
	dedupCheck = "dedup"
	dedupFix   = "everything is delivered meanwhile, some of it perhaps twice; check the store of deduplication"
)

// reportDedup returns what is told of each call of the transport's own store, nil when it answered.
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

func (d *dedup) close() {
	if d != nil {
		d.end()
	}
}
