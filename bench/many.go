package main

import (
	"context"
	"fmt"
	"strings"
)

// crowd is how many observers stand beside the one that matches.
const crowd = 99

// many measures what observers cost that do not match: of other entities, and of the same with other conditions.
func (b *bench) many(ctx context.Context) ([]result, error) {
	const condition = "data.status == 'shipped'"
	var others, conditions strings.Builder
	for i := range crowd {
		others.WriteString(observing(fmt.Sprintf("other-%d", i), fmt.Sprintf("Other%d", i), "", doNothing))
		conditions.WriteString(observing(fmt.Sprintf("other-%d", i), entity, fmt.Sprintf("data.status == 'status %d'", i), doNothing))
	}
	db, after, err := b.backlogged(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var results []result
	for _, v := range []struct{ name, one, others string }{
		{"100 observers, 99 of other entities -> no-op", observing("all", entity, "", doNothing), others.String()},
		{"100 observers, 99 conditions false -> no-op", observing("all", entity, condition, doNothing), conditions.String()},
	} {
		r := result{name: v.name}
		var runs series
		for i := range b.pairs {
			var one, hundred report
			err := alternate(i, func() (err error) {
				one, err = b.drainOnce(ctx, db, after, b.backlog, v.one)
				return err
			}, func() (err error) {
				hundred, err = b.drainOnce(ctx, db, after, b.backlog, v.one+v.others)
				return err
			})
			if err != nil {
				return results, err
			}
			runs.add(hundred.rate(), one.rate())
			r.add(counts{lost: b.backlog - hundred.Distinct, twice: hundred.Events - hundred.Distinct})
			b.note("%s: %s against %s", r.name, thousands(hundred.rate()), thousands(one.rate()))
		}
		results = append(results, r.heldAgainst(runs, "one observer", 0.8))
	}
	posted, err := b.manyWebhooks(ctx, observing("all", entity, condition, "%s"), conditions.String())
	return append(results, posted), err
}

func (b *bench) manyWebhooks(ctx context.Context, matching, others string) (result, error) {
	r := result{name: "100 observers, 99 conditions false -> webhook"}
	db, after, err := b.changed(ctx, b.posts)
	if err != nil {
		return r, err
	}
	defer db.Close()
	var runs series
	for i := range b.pairs {
		var one, hundred posted
		err := alternate(i, func() (err error) {
			one, err = b.postOnce(ctx, db, after, b.posts, 0, setup{observers: matching}, nil)
			return err
		}, func() (err error) {
			hundred, err = b.postOnce(ctx, db, after, b.posts, 0, setup{observers: matching + others}, nil)
			return err
		})
		if err != nil {
			return r, err
		}
		runs.add(hundred.rate(), one.rate())
		r.add(hundred.counts())
		b.note("%s: %s against %s", r.name, thousands(hundred.rate()), thousands(one.rate()))
	}
	return r.heldAgainst(runs, "one observer", 0.8), nil
}

// heldAgainst completes r from its runs.
func (r result) heldAgainst(runs series, what string, least float64) result {
	r.ours, r.against, r.ratio = thousands(median(runs.ours)), what+" "+thousands(median(runs.against)), median(runs.ratios)
	r.limits = []limit{atLeast(r.ratio, least, "%.2f x")}
	return r
}
