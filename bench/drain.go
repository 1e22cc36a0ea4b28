package main

import (
	"context"
	"fmt"
	"strconv"
)

// page is how many rows both sides of a drain read at a time: the program's default batch_size.
const page = 500

// drain measures how fast a backlog reaches an action that does nothing.
func (b *bench) drain(ctx context.Context) ([]result, error) {
	fresh, runs, err := b.drainBehind(ctx, 0)
	if err != nil {
		return nil, err
	}
	stock, err := b.drainStock(ctx, b.backlog/10)
	if err != nil {
		return []result{fresh}, err
	}
	below := runs.below("subscriber", "watermill-sql", b.backlog/10, stock)
	retained, _, err := b.drainBehind(ctx, b.retained)
	return []result{fresh, below, retained}, err
}

func (b *bench) drainBehind(ctx context.Context, retained int64) (r result, runs series, err error) {
	r = result{name: fmt.Sprintf("drain %s -> no-op", amount(b.backlog))}
	if retained > 0 {
		r.name += " behind " + amount(retained)
	}
	db, after, err := b.backlogged(ctx, retained)
	if err != nil {
		return r, runs, err
	}
	defer db.Close()
	for i := range b.pairs {
		var raw, ours report
		err := alternate(i, func() (err error) {
			raw, err = b.readAll(ctx, db, after)
			return err
		}, func() (err error) {
			ours, err = b.drainOnce(ctx, db, after, b.backlog, observing("all", entity, "", doNothing))
			return err
		})
		if err != nil {
			return r, runs, err
		}
		runs.add(ours.rate(), raw.rate())
		r.add(counts{lost: b.backlog - ours.Distinct, twice: ours.Events - ours.Distinct})
		b.note("%s: %s against %s, %.1f us", r.name, thousands(ours.rate()), thousands(raw.rate()), ours.cost())
	}
	r.ours, r.against, r.ratio = thousands(median(runs.ours)), "raw read "+thousands(median(runs.against)), median(runs.ratios)
	r.limits = []limit{atLeast(r.ratio, 0.3, "%.2f x"), atLeast(median(runs.ours), 60_000, "%.0f/s")}
	return r, runs, nil
}

// alternate runs both, and each first in turn.
func alternate(i int, first, second func() error) error {
	if i%2 == 1 {
		first, second = second, first
	}
	if err := first(); err != nil {
		return err
	}
	return second()
}

// backlogged returns a database whose log has a backlog after the mark, and the row before it.
func (b *bench) backlogged(ctx context.Context, retained int64) (*database, int64, error) {
	db, err := b.database(ctx)
	if err != nil {
		return nil, 0, err
	}
	var after int64
	if retained > 0 {
		err = db.fill(ctx, retained, b.entities)
	}
	if err == nil {
		err = db.mark(ctx)
	}
	if err == nil {
		after, err = db.last(ctx)
	}
	if err == nil {
		err = db.fill(ctx, b.backlog, b.entities)
	}
	if err != nil {
		db.Close()
		return nil, 0, err
	}
	return db, after, nil
}

func (b *bench) readAll(ctx context.Context, db *database, after int64) (report, error) {
	c, err := b.start(ctx, spec{Role: "read", Database: db.url, After: after, Page: page})
	if err != nil {
		return report{}, err
	}
	r, err := c.report(ctx)
	if err != nil {
		return r, err
	}
	return r, c.end()
}

// drainOnce drains the log from the mark on. Afterwards it calls each of look, while the observer still runs.
func (b *bench) drainOnce(ctx context.Context, db *database, after, want int64, observers string, look ...func(c *child) error) (report, error) {
	listener := b.name("listener")
	if err := db.fromMark(ctx, listener); err != nil {
		return report{}, err
	}
	c, err := b.observe(ctx, setup{database: db.url, listener: listener, observers: observers}, spec{After: after, Want: want})
	if err != nil {
		return report{}, err
	}
	return c.whole(ctx, look...)
}

func amount(n int64) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.3g M", float64(n)/1_000_000)
	case n >= 1000:
		return fmt.Sprintf("%.3g k", float64(n)/1000)
	}
	return strconv.FormatInt(n, 10)
}
