package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// posted is what one run of webhooks showed.
type posted struct {
	*ledger
	processor time.Duration // of the observer
	now, peak float64       // memory of the observer, MiB
}

// webhooks measures how fast a backlog of captured changes reaches a receiver, and what that takes of the processor.
func (b *bench) webhooks(ctx context.Context) ([]result, error) {
	results, err := b.instant(ctx)
	for _, concurrency := range []int{64, 256} {
		if err != nil {
			return results, err
		}
		var slow result
		slow, err = b.slowly(ctx, concurrency)
		results = append(results, slow)
	}
	return results, err
}

func (b *bench) instant(ctx context.Context) ([]result, error) {
	db, after, err := b.changed(ctx, b.posts)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	bodies, err := b.bodies(ctx, db, after)
	if err != nil {
		return nil, err
	}
	r := result{name: amount(b.posts) + " changes -> webhook, 64 at a time"}
	var runs series
	var each, bare, peaks []float64
	for i := range b.pairs {
		var raw posted
		var ours posted
		err := alternate(i, func() (err error) {
			raw, err = b.postAll(ctx, bodies, after)
			return err
		}, func() (err error) {
			ours, err = b.postOnce(ctx, db, after, b.posts, 0, everything, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		cost := float64(ours.processor.Microseconds()) / float64(b.posts)
		runs.add(ours.rate(), raw.rate())
		each, bare, peaks = append(each, cost), append(bare, float64(raw.processor.Microseconds())/float64(b.posts)), append(peaks, ours.peak)
		r.add(ours.counts())
		b.note("%s: %s against %s, %.1f us, %.1f MiB", r.name, thousands(ours.rate()), thousands(raw.rate()), cost, ours.peak)
	}
	r.ours, r.against, r.ratio = thousands(median(runs.ours)), "bare client "+thousands(median(runs.against)), median(runs.ratios)
	r.limits = []limit{atLeast(r.ratio, 0.8, "%.2f x")}
	cost := result{name: "  processor of observer for each webhook", ours: fmt.Sprintf("%.1f us", median(each)), against: fmt.Sprintf("bare client %.1f us", median(bare)), ratio: median(each) / median(bare), limits: []limit{atMost(median(each)/median(bare), 1.3, "%.1f x")}}
	peak := result{name: "  memory meanwhile, at most", ours: fmt.Sprintf("%.1f MiB", median(peaks))}
	return []result{r, cost, peak}, nil
}

// slowly measures against a receiver that takes 50 ms for each answer.
func (b *bench) slowly(ctx context.Context, concurrency int) (result, error) {
	const takes = 50 * time.Millisecond
	want := int64(concurrency) * int64(b.slow/takes)
	ideal := float64(concurrency) / takes.Seconds()
	r := result{name: fmt.Sprintf("  the same, receiver takes 50 ms, %d at a time", concurrency), against: "at best " + thousands(ideal)}
	db, after, err := b.changed(ctx, want)
	if err != nil {
		return r, err
	}
	defer db.Close()
	var rates []float64
	for range min(b.pairs, 3) { // waiting varies little
		run, err := b.postOnce(ctx, db, after, want, takes, setup{observers: everything.observers, concurrency: concurrency}, nil)
		if err != nil {
			return r, err
		}
		rates = append(rates, run.rate())
		r.add(run.counts())
		b.note("%s: %s against %s", r.name, thousands(run.rate()), thousands(ideal))
	}
	r.ours, r.ratio = thousands(median(rates)), median(rates)/ideal
	r.limits = []limit{atLeast(r.ratio, 0.95, "%.2f x")}
	return r, nil
}

// everything posts each change. It has %s where the action stands.
var everything = setup{observers: observing("all", entity, "", "%s")}

// postOnce delivers what the log has after the mark. The observers of set have %s where the action stands; keep is given the
// bodies.
func (b *bench) postOnce(ctx context.Context, db *database, after, want int64, takes time.Duration, set setup, keep func(body []byte)) (run posted, err error) {
	run.ledger = newLedger(after, want, b.entities)
	run.keep = keep
	to, err := receive(ctx, takes, run.arrived, run.answer)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	set.database, set.listener = db.url, b.name("listener")
	set.observers = fmt.Sprintf(set.observers, postTo(to.url()))
	if err := db.fromMark(ctx, set.listener); err != nil {
		return run, err
	}
	c, err := b.observe(ctx, set, spec{})
	if err != nil {
		return run, err
	}
	if err := run.wait(ctx); err != nil {
		return run, errors.Join(err, c.kill())
	}
	if run.now, run.peak, err = c.memory(); err != nil {
		return run, errors.Join(err, c.kill())
	}
	run.processor, err = c.stop()
	return run, err
}

// bodies runs the observer once, which warms everything up, and returns a file with what it posted.
func (b *bench) bodies(ctx context.Context, db *database, after int64) (string, error) {
	var mu sync.Mutex
	var text bytes.Buffer
	_, err := b.postOnce(ctx, db, after, b.posts, 0, everything, func(body []byte) {
		mu.Lock()
		defer mu.Unlock()
		text.Write(body)
		text.WriteByte('\n')
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.dir, b.name("bodies"))
	return file, os.WriteFile(file, text.Bytes(), 0o600)
}

// postAll posts the bodies with a bare client.
func (b *bench) postAll(ctx context.Context, bodies string, after int64) (run posted, err error) {
	run.ledger = newLedger(after, b.posts, b.entities)
	to, err := receive(ctx, 0, run.arrived, run.answer)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	c, err := b.start(ctx, spec{Role: "post", URL: to.url(), Bodies: bodies, Workers: 64})
	if err != nil {
		return run, err
	}
	if _, err := c.report(ctx); err != nil {
		return run, err
	}
	err = errors.Join(run.wait(ctx), c.end())
	run.processor = c.processor()
	return run, err
}
