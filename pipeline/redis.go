package pipeline

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/internal/redisconn"
)

const (
	redisCheck = "redis"
	redisFix   = "check that the server runs and that redis.url reaches it; meanwhile publish and cache actions are parked, and the others go on without dedup and cache"
)

// watchRedis shows in /readyz, until ctx ends, whether the Redis that something uses answers. The process does its work
// without it, so it is degraded then, and stays ready.
func (p *Pipeline) watchRedis(ctx context.Context) error {
	if !p.usesRedis() {
		return nil
	}
	cfg := p.plan.cfg.Redis
	cfg.PoolSize = 1 // of its own: a pool that is busy is no outage
	client, err := redisconn.Open(cfg)
	if err != nil {
		return fmt.Errorf("url in [redis] %w", err)
	}
	defer func() { _ = client.Close() }() // nothing is under way
	trouble := outage.New(p.log, "redis is away, working without it", "redis answers")
	for {
		p.askRedis(ctx, client, trouble)
		if !pause(ctx, probeEvery) {
			return nil
		}
	}
}

func (p *Pipeline) askRedis(ctx context.Context, client redis.UniversalClient, trouble *outage.Log) {
	patience, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	switch err := redisconn.Ping(patience, client); {
	case ctx.Err() != nil: // it is not Redis that ended
	case err != nil:
		p.health.Degrade(redisCheck, err.Error(), redisFix)
		trouble.Failed(err)
	default:
		p.health.OK(redisCheck)
		trouble.OK()
	}
}

// usesRedis reports whether anything that is enabled needs Redis.
func (p *Pipeline) usesRedis() bool {
	if p.plan.dedupUsesRedis() || p.plan.cfg.Performance.EnableCaching && p.plan.cfg.CachesInRedis() {
		return true
	}
	for _, o := range p.plan.observers {
		for _, a := range o.actions {
			if user, ok := a.run.(handlers.RedisUser); ok && user.UsesRedis() {
				return true
			}
		}
	}
	return false
}
