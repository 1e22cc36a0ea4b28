package main

import (
	"context"
	"errors"
)

// worker measures how fast a full stream reaches an action that does nothing.
func (b *bench) worker(ctx context.Context) (_ []result, err error) {
	bus, err := b.bus(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bus.close()) }()
	db, after, err := b.backlogged(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	bodies, err := b.streamed(ctx, bus, db, after)
	if err != nil {
		return nil, err
	}
	r := result{name: "JetStream -> router -> no-op, " + amount(b.backlog)}
	var runs series
	for i := range b.pairs {
		var raw, ours report
		err := alternate(i, func() (err error) {
			raw, err = b.consumeAll(ctx, bus, "consume", bodies, b.backlog)
			return err
		}, func() (err error) {
			ours, err = b.workOnce(ctx, bus, bodies, after, &r)
			return err
		})
		if err != nil {
			return nil, err
		}
		runs.add(ours.rate(), raw.rate())
		b.note("%s: %s against %s, %.1f us", r.name, thousands(ours.rate()), thousands(raw.rate()), ours.cost())
	}
	stock, err := b.consumeAll(ctx, bus, "consume with watermill-nats", bodies, b.backlog/10)
	if err != nil {
		return nil, err
	}
	below := runs.below("subscriber", "watermill-nats", b.backlog/10, stock)
	return []result{r.heldAgainst(runs, "raw consume", 0.4), below}, nil
}

// workOnce empties a stream of its own. What is left in it would come again.
func (b *bench) workOnce(ctx context.Context, bus *bus, bodies string, after int64, r *result) (report, error) {
	stream := b.name("stream")
	if err := b.fillStream(ctx, bus, "publish", stream, bodies, b.backlog); err != nil {
		return report{}, err
	}
	c, err := b.observe(ctx, setup{
		listener: b.name("worker"), transport: working(bus.url, stream), observers: observing("all", entity, "", doNothing),
	}, spec{After: after, Want: b.backlog})
	if err != nil {
		return report{}, err
	}
	run, err := c.whole(ctx)
	if err != nil {
		return run, err
	}
	left, err := bus.js.Stream(ctx, stream)
	if err != nil {
		return run, err
	}
	r.add(counts{lost: b.backlog - run.Distinct, twice: run.Events - run.Distinct + int64(left.CachedInfo().State.Msgs)})
	return run, bus.js.DeleteStream(ctx, stream)
}

// consumeAll empties a stream of its own, that holds the first of the bodies.
func (b *bench) consumeAll(ctx context.Context, bus *bus, role, bodies string, want int64) (report, error) {
	stream := b.name("stream")
	if err := b.fillStream(ctx, bus, "publish", stream, bodies, want); err != nil {
		return report{}, err
	}
	if role != "consume" { // it makes its own, and a work queue has one
		if err := bus.js.DeleteConsumer(ctx, stream, consumer); err != nil {
			return report{}, err
		}
	}
	c, err := b.start(ctx, spec{Role: role, URL: bus.url, Stream: stream, Want: want})
	if err != nil {
		return report{}, err
	}
	run, err := c.report(ctx)
	if err != nil {
		return run, err
	}
	return run, errors.Join(c.end(), bus.js.DeleteStream(ctx, stream))
}
