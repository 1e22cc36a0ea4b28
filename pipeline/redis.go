package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/pipeline/redis"
)

const (
	redisCheck = "redis"
	redisFix   = "check that the server runs and that redis.url reaches it; meanwhile publish and cache actions are parked, and the others go on without dedup and cache"
)

// redis returns the one client of this process, which actions, deduplication and the cache of results share.
func (p *Plan) redis() (goredis.UniversalClient, error) {
	if p.servers == nil {
		return nil, errors.New("open Redis: no servers are given")
	}
	return p.servers.Redis()
}

// redisTimeout bounds one answer of Redis.
func (p *Plan) redisTimeout() time.Duration {
	return time.Duration(p.cfg.Redis.CommandTimeoutSecs) * time.Second
}

// dedupUsesRedis reports whether the record of deliveries is in Redis: where there is one. Else it is where the transport is.
func (p *Plan) dedupUsesRedis() bool {
	return p.cfg.Performance.EnableDedup && p.cfg.HasRedis() && p.cfg.Transport.Executes()
}

// cachesInRedis reports whether cached results are in Redis: where there is one. Else each process keeps its own.
func (p *Plan) cachesInRedis() bool {
	return p.cfg.Performance.EnableCaching && p.cfg.HasRedis() && p.cfg.Transport.Executes()
}

// usesRedis reports whether anything that is enabled needs Redis.
func (p *Plan) usesRedis() bool {
	if p.dedupUsesRedis() || p.cachesInRedis() {
		return true
	}
	for _, o := range p.observers {
		for _, a := range o.actions {
			if user, ok := a.run.(handlers.RedisUser); ok && user.UsesRedis() {
				return true
			}
		}
	}
	return false
}

// watchRedis shows in /readyz, until ctx ends, whether the Redis that something uses works. The process does its work
// without it, so it is degraded then, and stays ready.
func (p *Pipeline) watchRedis(ctx context.Context) error {
	if !p.plan.usesRedis() {
		return nil
	}
	client, err := p.plan.redis()
	if err != nil {
		return err
	}
	store := redis.NewDedup(client, p.plan.redisTimeout())
	defer store.Close()
	for {
		err := p.askRedis(ctx, client, store)
		if ctx.Err() == nil { // it is not Redis that ended
			p.reportRedis(err)
		}
		if !pause(ctx, probeEvery) {
			return nil
		}
	}
}

// askRedis asks every server and, where deliveries are deduplicated, goes the way of one.
func (p *Pipeline) askRedis(ctx context.Context, client goredis.UniversalClient, store *redis.Dedup) error {
	ctx, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	err := redisconn.Ping(ctx, client)
	if err == nil && p.plan.dedupUsesRedis() {
		err = store.Probe(ctx)
	}
	return err
}

// reportRedis is told of each probe, and of each step of deduplication in Redis; nil when it answered. It is the one place
// that knows whether Redis works.
func (p *Pipeline) reportRedis(err error) {
	if err != nil {
		p.health.Degrade(redisCheck, err.Error(), redisFix)
		p.redis.Failed(err)
		return
	}
	p.health.OK(redisCheck)
	p.redis.OK()
}

// checkRedis asks the server that deduplication and the cache of results use. Actions ask for themselves.
func checkRedis(ctx context.Context, plan *Plan) []Check {
	if !plan.dedupUsesRedis() && !plan.cachesInRedis() {
		return nil
	}
	client, err := plan.redis()
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		err = redisconn.Ping(limited, client)
	}
	if err != nil {
		return []Check{{Name: redisCheck, Err: fmt.Errorf("ask Redis: %w", err)}}
	}
	return []Check{{Name: redisCheck, Detail: "answers"}}
}
