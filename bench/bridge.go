package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// bridged is what one run of a bridge showed.
type bridged struct {
	report
	peak float64 // of its memory, MiB
	counts
}

// bridge measures how fast a backlog comes into a stream, and what the bridge occupies meanwhile when it is a large one.
func (b *bench) bridge(ctx context.Context) (results []result, err error) {
	bus, err := b.bus(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bus.close()) }()
	if results, err = b.bridgeRate(ctx, bus); err != nil {
		return results, err
	}
	peak, err := b.bridgeMemory(ctx, bus)
	return append(results, peak), err
}

func (b *bench) bridgeRate(ctx context.Context, bus *bus) ([]result, error) {
	db, after, err := b.backlogged(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	bodies, err := b.streamed(ctx, bus, db, after)
	if err != nil {
		return nil, err
	}
	r := result{name: "bridge: change log " + amount(b.backlog) + " -> JetStream"}
	var runs series
	for i := range b.pairs {
		var raw report
		var ours bridged
		err := alternate(i, func() (err error) {
			raw, err = b.publishAll(ctx, bus, "publish", bodies, b.backlog)
			return err
		}, func() (err error) {
			ours, err = b.bridgeOnce(ctx, bus, db, after, b.backlog, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		runs.add(ours.rate(), raw.rate())
		r.add(ours.counts)
		b.note("%s: %s against %s, %.1f us, %.1f MiB", r.name, thousands(ours.rate()), thousands(raw.rate()), ours.cost(), ours.peak)
	}
	stock, err := b.publishAll(ctx, bus, "publish with watermill-nats", bodies, b.backlog/10)
	if err != nil {
		return nil, err
	}
	below := runs.below("publisher", "watermill-nats", b.backlog/10, stock)
	return []result{r.heldAgainst(runs, "raw publish", 0.4), below}, nil
}

// bridgeMemory measures with a backlog that does not fit.
func (b *bench) bridgeMemory(ctx context.Context, bus *bus) (result, error) {
	want := 10 * b.backlog
	r := result{name: fmt.Sprintf("bridge, backlog of %s: memory at most", amount(want))}
	db, err := b.database(ctx)
	if err != nil {
		return r, err
	}
	defer db.Close()
	if err := db.mark(ctx); err != nil {
		return r, err
	}
	if err := db.fill(ctx, want, b.entities); err != nil {
		return r, err
	}
	run, err := b.bridgeOnce(ctx, bus, db, 0, want, nil)
	if err != nil {
		return r, err
	}
	b.note("%s: %.1f MiB, %s", r.name, run.peak, thousands(run.rate()))
	r.add(run.counts)
	r.ours, r.limits = fmt.Sprintf("%.1f MiB", run.peak), []limit{atMost(run.peak, 80, "%.0f MiB")}
	return r, nil
}

// streamed runs the bridge once, which warms everything up, and returns a file with what it published.
func (b *bench) streamed(ctx context.Context, bus *bus, db *database, after int64) (string, error) {
	var text bytes.Buffer
	run, err := b.bridgeOnce(ctx, bus, db, after, b.backlog, func(body []byte) {
		text.Write(body)
		text.WriteByte('\n')
	})
	if err != nil {
		return "", err
	}
	if run.counts != (counts{}) {
		return "", fmt.Errorf("bridge %s: %d were lost, %d came twice, %d out of order", amount(b.backlog), run.lost, run.twice, run.disordered)
	}
	file := filepath.Join(b.dir, b.name("bodies"))
	return file, os.WriteFile(file, text.Bytes(), 0o600)
}

// bridgeOnce fills a stream of its own from the mark on, and then looks what is in it.
func (b *bench) bridgeOnce(ctx context.Context, bus *bus, db *database, after, want int64, keep func(body []byte)) (run bridged, err error) {
	stream, listener := b.name("stream"), b.name("bridge")
	topology, err := bus.stream(ctx, stream)
	if err != nil {
		return run, err
	}
	if err := db.fromMark(ctx, listener); err != nil {
		return run, err
	}
	c, err := b.observe(ctx, setup{
		database: db.url, listener: listener, transport: bridging(bus.url, stream, listener), observers: observing("all", entity, "", doNothing),
	}, spec{})
	if err != nil {
		return run, err
	}
	if run.report, err = bus.filled(ctx, stream, want); err == nil {
		_, run.peak, err = c.memory()
	}
	if err != nil {
		return run, errors.Join(err, c.kill())
	}
	if run.processor, err = c.stop(); err != nil {
		return run, err
	}
	l := newLedger(after, want, b.entities)
	l.keep = keep
	if err = bus.drain(ctx, stream, topology, l); err != nil {
		return run, err
	}
	run.counts = l.counts()
	return run, bus.js.DeleteStream(ctx, stream)
}

// publishAll fills a stream of its own with the bodies, or the first of them.
func (b *bench) publishAll(ctx context.Context, bus *bus, role, bodies string, want int64) (report, error) {
	stream := b.name("stream")
	if err := b.fillStream(ctx, bus, role, stream, bodies, want); err != nil {
		return report{}, err
	}
	run, err := bus.filled(ctx, stream, want)
	if err != nil {
		return run, err
	}
	return run, bus.js.DeleteStream(ctx, stream)
}

func (b *bench) fillStream(ctx context.Context, bus *bus, role, stream, bodies string, want int64) error {
	if _, err := bus.stream(ctx, stream); err != nil {
		return err
	}
	c, err := b.start(ctx, spec{Role: role, URL: bus.url, Stream: stream, Bodies: bodies, Want: want})
	if err != nil {
		return err
	}
	if _, err := c.report(ctx); err != nil {
		return err
	}
	return c.end()
}
