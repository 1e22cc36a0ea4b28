package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// startup measures from the start of the process to the first webhook, of a change that waits.
func (b *bench) startup(ctx context.Context) ([]result, error) {
	r := result{name: "start -> first delivery"}
	db, after, err := b.changed(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var took []float64
	for range b.pairs {
		l := newLedger(after, 1, b.entities)
		first, err := b.startOnce(ctx, db, l)
		if err != nil {
			return nil, err
		}
		took = append(took, first.Seconds())
		r.add(l.counts())
	}
	b.note("%s: %.3f s", r.name, median(took))
	r.ours, r.limits = fmt.Sprintf("%.2f s", median(took)), []limit{atMost(median(took), 1, "%.0f s")}
	return []result{r}, nil
}

func (b *bench) startOnce(ctx context.Context, db *database, l *ledger) (first time.Duration, err error) {
	to, err := receive(ctx, 0, l.arrived, l.answer)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	listener := b.name("listener")
	if err := db.fromMark(ctx, listener); err != nil {
		return 0, err
	}
	c, err := b.observe(ctx, setup{database: db.url, listener: listener, observers: observing("all", entity, "", postTo(to.url()))}, spec{})
	if err != nil {
		return 0, err
	}
	if err := l.wait(ctx); err != nil {
		return 0, errors.Join(err, c.kill())
	}
	first = l.begun.Add(time.Duration(l.first.Load())).Sub(c.begun)
	_, err = c.stop()
	return first, err
}
