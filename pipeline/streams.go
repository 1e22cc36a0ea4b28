package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/redis"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	streamsCheck = "redis_streams"
	streamsFix   = "check that the server runs and that redis.url reaches it"
)

// runStreams runs one worker of a consumer group of Redis Streams until ctx ends.
func (p *Pipeline) runStreams(ctx context.Context) error {
	client, err := p.streamsClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing is under way
	p.health.Fail(streamsCheck, "no connection yet", streamsFix)
	cfg := p.plan.cfg.Transport.Redis
	js := p.plan.cfg.Transport.NATS.JetStream // ack_wait_secs and max_deliver are those of every transport
	driver, err := p.openStreams(ctx, redis.DriverConfig{
		Client: client, Stream: cfg.Stream, Group: cfg.ConsumerGroup, AckWait: time.Duration(js.AckWaitSecs) * time.Second, MaxDeliver: js.MaxDeliver, Log: p.log,
	})
	if err != nil {
		return endOf(ctx, err)
	}
	queue, err := redis.NewRetryQueue(redis.RetryQueueConfig{
		Client: client, Stream: cfg.Stream, AckWait: time.Duration(js.AckWaitSecs) * time.Second, MaxDeliver: js.MaxDeliver, Log: p.log,
	})
	if err != nil {
		return err
	}
	for _, warning := range redis.Warnings(ctx, client) {
		p.log.Warn("a setting of redis may lose events", slog.String("detail", warning))
	}
	p.health.Become("worker")
	p.log.Info("working", slog.String("stream", cfg.Stream), slog.String("group", cfg.ConsumerGroup))
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		p.probe(running, streamsCheck, streamsFix, func(ctx context.Context) error { return redisconn.Ping(ctx, client) })
		return nil
	})
	group.Go(func() error { return p.watchRedis(running) })
	group.Go(func() error {
		return p.work(running, carrier{
			events: driver, halves: true, queue: queue, dead: &redis.DeadLetters{Client: client, Stream: cfg.Stream, Group: cfg.ConsumerGroup},
			ahead: func(ctx context.Context) (int64, time.Duration, error) { return redis.Backlog(ctx, client, cfg.Stream) },
			dedup: func() (middleware.DedupStore, func()) {
				store := redis.NewDedup(client, time.Duration(p.plan.cfg.Redis.CommandTimeoutSecs)*time.Second)
				return store, func() { store.Close() }
			},
		})
	})
	return endOf(ctx, group.Wait())
}

// streamsClient has connections of its own: a read that waits for events holds one.
func (p *Pipeline) streamsClient() (goredis.UniversalClient, error) {
	client, err := redisconn.Open(p.plan.cfg.Redis)
	if err != nil {
		return nil, fmt.Errorf("url in [redis] %w", err)
	}
	return client, nil
}

// openStreams makes the consumer group, and waits for a server that does not answer.
func (p *Pipeline) openStreams(ctx context.Context, cfg redis.DriverConfig) (*redis.Driver, error) {
	trouble := outage.New(p.log, "waiting for redis", "redis answers")
	for {
		driver, err := redis.OpenDriver(ctx, cfg)
		if err == nil {
			trouble.OK()
			p.health.OK(streamsCheck)
			return driver, nil
		}
		if ctx.Err() != nil || window.IsFatal(err) {
			return nil, err
		}
		p.health.Fail(streamsCheck, err.Error(), streamsFix)
		trouble.Failed(err)
		pause(ctx, retryPause)
	}
}
