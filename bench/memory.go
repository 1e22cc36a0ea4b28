package main

import (
	"context"
	"fmt"
)

// memory measures what the observer occupies while it drains a large backlog.
func (b *bench) memory(ctx context.Context) ([]result, error) {
	want := 10 * b.backlog
	r := result{name: fmt.Sprintf("memory, backlog of %s -> no-op, at most", amount(want))}
	db, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := db.mark(ctx); err != nil {
		return nil, err
	}
	if err := db.fill(ctx, want, b.entities); err != nil {
		return nil, err
	}
	var peak float64
	run, err := b.drainOnce(ctx, db, 0, want, observing("all", entity, "", doNothing), func(c *child) (err error) {
		_, peak, err = c.memory()
		return err
	})
	if err != nil {
		return nil, err
	}
	r.add(counts{lost: want - run.Distinct, twice: run.Events - run.Distinct})
	b.note("%s: %.1f MiB, %s", r.name, peak, thousands(run.rate()))
	r.ours, r.limits = fmt.Sprintf("%.1f MiB", peak), []limit{atMost(peak, 80, "%.0f MiB")}
	return []result{r}, nil
}
