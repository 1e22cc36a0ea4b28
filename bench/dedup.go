package main

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/internal/testenv"
)

// dedup measures how fast a backlog of captured changes reaches a receiver when each delivery is claimed before and confirmed
// after.
func (b *bench) dedup(ctx context.Context) (results []result, err error) {
	server, err := testenv.NewRedisServer()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	db, after, err := b.changed(ctx, b.posts)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := b.postOnce(ctx, db, after, b.posts, 0, everything, nil); err != nil { // warms up
		return nil, err
	}
	client, err := connectRedis(server.URL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	const on = "enable_dedup = true\n"
	for _, v := range []struct {
		name, redis string
		limited     bool
	}{
		{"dedup on (Redis), " + amount(b.posts) + " changes -> webhook, 64 at a time", server.URL(), true},
		{"  the same, its record in Postgres", "", false},
	} {
		r := result{name: v.name}
		err := b.withAndWithout(ctx, db, after, &r, client, setup{observers: everything.observers, performance: on, redis: v.redis})
		if err != nil {
			return results, err
		}
		if v.limited {
			r.limits = []limit{atLeast(r.ratio, 0.5, "%.2f x")}
		}
		results = append(results, r)
	}
	return results, nil
}

// withAndWithout compares a setup with one that posts everything and does no more. No run finds what an earlier one has done.
func (b *bench) withAndWithout(ctx context.Context, db *database, after int64, r *result, client *redis.Client, with setup) error {
	var runs series
	for i := range b.pairs {
		var ours, without posted
		err := alternate(i, func() (err error) {
			without, err = b.postOnce(ctx, db, after, b.posts, 0, everything, nil)
			return err
		}, func() (err error) {
			if err = forget(ctx, db, client); err != nil {
				return err
			}
			ours, err = b.postOnce(ctx, db, after, b.posts, 0, with, nil)
			return err
		})
		if err != nil {
			return err
		}
		runs.add(ours.rate(), without.rate())
		r.add(ours.counts())
		b.note("%s: %s against %s", r.name, thousands(ours.rate()), thousands(without.rate()))
	}
	r.ours, r.against, r.ratio = thousands(median(runs.ours)), "without "+thousands(median(runs.against)), median(runs.ratios)
	return nil
}

func forget(ctx context.Context, db *database, client *redis.Client) error {
	_, err := db.Exec(ctx, "truncate core.tb_observer_dedup")
	return errors.Join(err, client.FlushAll(ctx).Err())
}

func connectRedis(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}
