package pipeline

import (
	"fmt"
	"time"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/memory"
	"github.com/fraiseql/observer/pipeline/redis"
)

// withResults runs run with the cache of results that the configuration asks for: in Redis where it says which, so that all
// processes share them and a restart keeps them, else in the memory of this process.
func (p *Pipeline) withResults(run func() error) error {
	cfg := p.plan.cfg
	if !cfg.Performance.EnableCaching {
		return run()
	}
	var store middleware.ResultStore = memory.NewResults()
	if p.plan.cachesInRedis() {
		client, err := p.plan.redis()
		if err != nil {
			return fmt.Errorf("open cache: %w", err)
		}
		store = redis.NewResults(client)
	}
	var err error
	p.results, err = middleware.NewResults(middleware.ResultsConfig{
		Store: store, TTL: time.Duration(cfg.Redis.CacheTTLSecs) * time.Second, Look: p.cache.Look, Log: p.log,
	})
	if err != nil {
		return err
	}
	return run()
}

// cacheKey is nil for an action that is not to be skipped.
func (p *Pipeline) cacheKey(a action) middleware.CacheKey {
	f, ok := a.run.(handlers.Fingerprinter)
	if !ok || !a.Cacheable || p.results == nil {
		return nil
	}
	return middleware.DeliveryKey(f.Fingerprint)
}
