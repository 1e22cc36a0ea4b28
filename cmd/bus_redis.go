package cmd

import (
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/pipeline/redis"
)

// onRedis runs a command that works on the server of transport redis and ends by itself: it does not wait for one that does
// not answer.
func onRedis(ctx context.Context, cfg *config.Config, work func(context.Context, goredis.UniversalClient) error) error {
	client, err := redisconn.Open(cfg.Redis)
	if err != nil {
		return fmt.Errorf("url in [redis] %w", err)
	}
	defer func() { _ = client.Close() }() // nothing is under way
	patience, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	if err := redisconn.Ping(patience, client); err != nil {
		return fmt.Errorf("connect to Redis: %w: check that the server runs and that redis.url reaches it", err)
	}
	return work(ctx, client)
}

// publishToRedis adds every event of source to the stream.
func publishToRedis(ctx context.Context, client goredis.UniversalClient, stream string, source *eventSource) (ids []string, err error) {
	events, err := source.all()
	if err != nil {
		return nil, err
	}
	publisher := redis.NewPublisher(client, stream)
	if err := publisher.PublishEvents(ctx, events); err != nil {
		return nil, fmt.Errorf("emit: %w: some of the events may be in the stream", err)
	}
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids, publisher.Close()
}
