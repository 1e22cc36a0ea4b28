package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/internal/testenv"
)

// cacheable asks for the same with each change.
const cacheable = `[[observers]]
name = "all"
entity = "Item"
[[observers.actions]]
type = "webhook"
url = %q
body_template = '{"warning": "the stock is low"}'
cacheable = true
`

// hits is what one run of changes whose request is cached showed, in milliseconds.
type hits struct {
	took, get []float64 // of each action, and of a bare GET after it
	counts
}

// cacheHits measures how long an action takes that is skipped since an identical request succeeded.
func (b *bench) cacheHits(ctx context.Context) (_ []result, err error) {
	r := result{name: "cache hit (Redis), one at a time"}
	server, err := testenv.NewRedisServer()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	client, err := connectRedis(server.URL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	var ours, gets []float64
	for range max(1, b.pairs/2+1) {
		run, err := b.hitOften(ctx, server.URL(), client)
		if err != nil {
			return nil, err
		}
		ours, gets = append(ours, run.took...), append(gets, run.get...)
		r.add(run.counts)
		b.note("%s: %.2f ms against %.2f ms", r.name, median(run.took), median(run.get))
	}
	r.ours, r.against = fmt.Sprintf("p50 %.2f ms", median(ours)), fmt.Sprintf("bare GET %.2f ms", median(gets))
	r.ratio, r.limits = median(ours)/median(gets), []limit{atMost(median(ours), 1, "%.0f ms")}
	return []result{r}, nil
}

// hitOften starts an observer on a Redis that holds nothing: its first request arrives, all others are hits.
func (b *bench) hitOften(ctx context.Context, url string, client *redis.Client) (run hits, err error) {
	if err := client.FlushAll(ctx).Err(); err != nil {
		return run, err
	}
	db, err := b.items(ctx)
	if err != nil {
		return run, err
	}
	defer db.Close()
	first := make(chan struct{}, 2*b.hits)
	to, err := receive(ctx, 0, func([]byte) { first <- struct{}{} }, func() {})
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	admin, err := freeAddress(ctx)
	if err != nil {
		return run, err
	}
	listener := b.name("listener")
	if err := db.fromMark(ctx, listener); err != nil {
		return run, err
	}
	c, err := b.observe(ctx, setup{
		database: db.url, listener: listener, admin: admin, redis: url,
		performance: "enable_caching = true\n", observers: fmt.Sprintf(cacheable, to.url()),
	}, spec{})
	if err != nil {
		return run, err
	}
	m := meter{"http://" + admin + "/metrics", db, client}
	if err = b.insert(ctx, db, b.entities); err == nil {
		err = await(ctx, first)
	}
	if err == nil {
		run, err = m.measure(ctx, b.entities+1, b.hits)
	}
	if err != nil {
		return run, errors.Join(err, c.kill())
	}
	run.twice += int64(len(first))
	_, err = c.stop()
	return run, err
}

// meter reads how long single actions took.
type meter struct {
	url    string
	db     *database
	client *redis.Client
}

// measure lets n changes pass, each when the one before is done: what the program's sum of durations grew by meanwhile is what
// that one took, to the nanosecond, where the histogram's buckets would say little.
func (m meter) measure(ctx context.Context, id int64, n int) (run hits, err error) {
	before, err := m.settled(ctx, 1)
	if err != nil {
		return run, err
	}
	begin := before
	for i := range n {
		if _, err := m.db.Exec(ctx, "insert into item values ($1, 0, 'paid', 12.50, 'customer')", id+int64(i)); err != nil {
			return run, err
		}
		after, err := m.settled(ctx, before.actions+1)
		if err != nil {
			return run, err
		}
		get, err := m.get(ctx)
		if err != nil {
			return run, err
		}
		run.took, run.get = append(run.took, (after.seconds-before.seconds)*1000), append(run.get, get)
		before = after
	}
	run.lost = int64(n) - int64(before.hits-begin.hits)
	run.twice = int64(before.actions-begin.actions) - int64(n)
	return run, nil
}

// get times a GET of the key that the observer reads.
func (m meter) get(ctx context.Context) (millis float64, err error) {
	key, err := m.client.RandomKey(ctx).Result() // it is the only one
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	err = m.client.Get(ctx, key).Err()
	return float64(time.Since(begun).Nanoseconds()) / 1e6, err
}
