package main

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/redis"
)

// streams measures how fast a full Redis stream reaches an action that does nothing.
func (b *bench) streams(ctx context.Context) (_ []result, err error) {
	// As the program asks for: nothing is evicted, and what is written goes to the disk, each second.
	server, err := testenv.NewRedisServer("appendonly yes", "maxmemory-policy noeviction")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	client, err := connectRedis(server.URL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	s := &streamed{bench: b, client: client, url: server.URL()}
	if s.events, err = changes(b.backlog, b.entities); err != nil {
		return nil, err
	}
	r := result{name: "Redis Streams -> router -> no-op, " + amount(b.backlog)}
	var runs series
	for i := range b.pairs {
		var raw, ours report
		err := alternate(i, func() (err error) {
			raw, err = s.readStream(ctx, "read stream", b.backlog)
			return err
		}, func() (err error) {
			ours, err = s.workOnce(ctx, &r)
			return err
		})
		if err != nil {
			return nil, err
		}
		runs.add(ours.rate(), raw.rate())
		b.note("%s: %s against %s, %.1f us", r.name, thousands(ours.rate()), thousands(raw.rate()), ours.cost())
	}
	stock, err := s.readStream(ctx, "read stream with watermill-redisstream", b.backlog/10)
	if err != nil {
		return nil, err
	}
	below := runs.below("subscriber", "watermill-redisstream", b.backlog/10, stock)
	return []result{r.heldAgainst(runs, "raw read", 0.3), below}, nil
}

// streamed is the server of the row, and what its streams are filled with.
type streamed struct {
	*bench
	client *goredis.Client
	url    string
	events []*event.Event
}

// changes returns n updates such as the other rows have in the log, with their places in it; they go round the entities.
func changes(n, entities int64) (list []*event.Event, err error) {
	const image = `{"n": %d, "id": %d, "total": 12.50, "status": %q, "customer": "customer %d"}`
	for i := int64(1); i <= n && err == nil; i++ {
		id := i % entities
		var e *event.Event
		e, err = event.Decode(fmt.Appendf(nil, `{"entity_type": %q, "entity_id": "%d", "event_type": "UPDATE", "seq": %d, "data": `+image+`, "before": `+image+`}`,
			entity, id, i, i, id, "shipped", i%100, i-entities, id, "paid", i%100))
		list = append(list, e)
	}
	return list, err
}

// fill makes a stream that holds the first of the events.
func (s *streamed) fill(ctx context.Context, want int64) (stream string, err error) {
	stream = s.name("stream")
	err = redis.NewPublisher(s.client, stream).PublishEvents(ctx, s.events[:want])
	return stream, err
}

// workOnce empties a stream of its own. What is left in it would come again.
func (s *streamed) workOnce(ctx context.Context, r *result) (report, error) {
	stream, err := s.fill(ctx, s.backlog)
	if err != nil {
		return report{}, err
	}
	c, err := s.observe(ctx, setup{
		listener: s.name("worker"), transport: overStreams(stream), redis: s.url, observers: observing("all", entity, "", doNothing),
	}, spec{Want: s.backlog})
	if err != nil {
		return report{}, err
	}
	run, err := c.whole(ctx)
	if err != nil {
		return run, err
	}
	left, err := s.client.XLen(ctx, stream).Result()
	if err != nil {
		return run, err
	}
	r.add(counts{lost: s.backlog - run.Distinct, twice: run.Events - run.Distinct + left})
	return run, s.client.Del(ctx, stream).Err()
}

// readStream empties a stream of its own, that holds the first of the events.
func (s *streamed) readStream(ctx context.Context, role string, want int64) (report, error) {
	stream, err := s.fill(ctx, want)
	if err != nil {
		return report{}, err
	}
	c, err := s.start(ctx, spec{Role: role, URL: s.url, Stream: stream, Want: want})
	if err != nil {
		return report{}, err
	}
	run, err := c.report(ctx)
	if err != nil {
		return run, err
	}
	return run, errors.Join(c.end(), s.client.Del(ctx, stream).Err())
}
