package pipeline

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/postgres"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	confirmEvery = 500 * time.Millisecond // how often the stream is looked at

	bridgeCheck = "bridge"
	bridgeFix   = "the bridge goes on by itself once the stream takes events; until then the change log keeps them; where the server's disk was full, make room and restart it"
)

// runBridge moves the change log to the stream whenever this process leads the bridge, and stands by while another does.
func (p *Pipeline) runBridge(ctx context.Context, bus *bus) error {
	cfg := bridged(&p.plan.cfg.Transport)
	p.health.Fail(postgresCheck, "no connection yet", postgresFix)
	pool, err := p.prepare(ctx, cfg)
	if err != nil {
		return endOf(ctx, err)
	}
	defer pool.Close()
	p.health.OK(postgresCheck)
	return endOf(ctx, p.leading(ctx, pool, cfg, func(ctx context.Context, lease *postgres.Lease) error {
		return p.relay(ctx, pool, cfg, lease, bus)
	}))
}

// bridged is how a bridge reads the log: under its own name, in its own pages.
func bridged(t *config.Transport) postgres.Config {
	cfg := t.Postgres
	cfg.ListenerName, cfg.BatchSize, cfg.PollIntervalSecs, cfg.NotifyChannel = t.Bridge.TransportName, t.Bridge.BatchSize, t.Bridge.PollIntervalSecs, t.Bridge.NotifyChannel
	return cfg
}

// relay runs one term of leadership of a bridge.
func (p *Pipeline) relay(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config, lease *postgres.Lease, bus *bus) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader := postgres.NewReader(postgres.ReaderConfig{Config: cfg, Pool: pool, Lease: lease, Tracked: true, Log: p.log})
	dead, err := p.openDead(ctx, bus)
	if err != nil {
		return err
	}
	relay := nats.NewRelay(nats.RelayConfig{
		JetStream: bus.JS, Stream: bus.cfg.StreamName, Subject: bus.Subject, Source: reader, Batch: cfg.BatchSize, Log: p.log,
		Poison: func(ctx context.Context, msg *message.Message) error {
			return p.countDeadLetters(dead).Put(ctx, unreadable(msg))
		},
	})
	confirm := &confirmer{store: &postgres.Confirmed{DB: pool, Lease: lease, Name: cfg.ListenerName}, bus: bus, relay: relay, log: p.log}
	if err := confirm.begin(ctx); err != nil {
		return err
	}
	var beside sync.WaitGroup
	beside.Go(func() { p.watchReading(ctx, reader, lease) })
	beside.Go(func() { p.watchCaptures(ctx, listCaptures(pool)) })
	beside.Go(func() {
		p.probe(ctx, bridgeCheck, bridgeFix, func(context.Context) error { return errors.Join(relay.Err(), confirm.trouble()) })
		p.health.OK(bridgeCheck) // a standby publishes nothing
	})
	beside.Go(func() { confirm.run(ctx) })
	beside.Go(func() { bus.keep(ctx, func(ctx context.Context) error { return dead.Restore(ctx, p.log) }) })
	beside.Go(func() {
		postgres.RunRetention(ctx, postgres.RetentionConfig{DB: pool, Days: cfg.RetentionDays, Held: lease.Held, Log: p.log})
	})
	beside.Go(func() {
		p.report(ctx, &p.stats.bridge, func(context.Context) (figures, error) {
			s := reader.Stats()
			return figures{backlog: s.Backlog, age: s.OldestAge, stream: confirm.reached()}, nil
		})
	})
	beside.Go(func() {
		select {
		case <-lease.Lost():
			cancel()
		case <-ctx.Done():
		}
	})
	err = relay.Run(ctx)
	cancel()
	beside.Wait()
	last, done := context.WithTimeout(context.WithoutCancel(ctx), p.plan.cfg.Performance.ShutdownTimeout)
	defer done()
	return errors.Join(err, reader.Close(last))
}

// unreadable is the dead letter of an event that was captured without its data.
func unreadable(msg *message.Message) *event.Delivery {
	return &event.Delivery{Event: event.OfContext(msg.Context()), Attempts: []event.Attempt{{
		At: time.Now(), Error: msg.Metadata.Get(window.MetadataPoison), Class: cmp.Or(msg.Metadata.Get(window.MetadataPoisonClass), deadletter.ClassUnreadable),
	}}}
}

// confirmer keeps the second checkpoint of a bridge: what the workers have settled. It notices when the stream lost what was
// put into it, and has it filled again from there.
type confirmer struct {
	store *postgres.Confirmed
	bus   *bus
	relay *nats.Relay
	log   *slog.Logger

	known postgres.StreamMark // what the stream held when it was looked at last
	next  *postgres.Position  // the position that is to be confirmed
	upTo  uint64              // once everything up to this sequence has left the stream

	mu    sync.Mutex // guards what follows
	err   error
	marks *streamMarks // nil before the first look
}

// streamMarks are sequences of the stream: up to which it is filled, and up to which everything is settled.
type streamMarks struct{ published, confirmed uint64 }

// begin looks, before anything is published, whether the stream still holds what an earlier bridge put into it.
func (c *confirmer) begin(ctx context.Context) error {
	for {
		stored, found, err := c.store.Mark(ctx)
		if err == nil {
			c.known = stored
			if !found {
				err = c.first(ctx)
			}
			err = errors.Join(err, c.look(ctx))
		}
		c.note(err)
		if err == nil || ctx.Err() != nil || errors.Is(err, postgres.ErrDeposed) {
			return err
		}
		c.log.Warn("the stream cannot be looked at, will try again", slog.Any("error", err))
		pause(ctx, retryPause)
	}
}

// first confirms where the bridge begins, so that it can go back there.
func (c *confirmer) first(ctx context.Context) error {
	now, _, err := c.bus.state(ctx)
	if err != nil {
		return err
	}
	position, err := c.store.Published(ctx)
	if errors.Is(err, postgres.ErrNoCheckpoint) {
		position, err = postgres.Beginning(), nil
	}
	if err == nil {
		err = c.store.Confirm(ctx, position, now)
	}
	c.known = now
	return err
}

// run looks again and again until ctx ends.
func (c *confirmer) run(ctx context.Context) {
	for pause(ctx, confirmEvery) {
		err := c.look(ctx)
		if ctx.Err() == nil {
			c.note(err)
		}
	}
}

// look compares the stream with what is known of it and moves the confirmed position.
func (c *confirmer) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	put := c.relay.Last() // before the stream is asked, which may go on meanwhile
	now, first, err := c.bus.state(ctx)
	if err != nil {
		return err
	}
	c.mark(now, first)
	known := postgres.StreamMark{Created: c.known.Created, Sequence: max(c.known.Sequence, put)}
	if known.Lost(now) {
		return c.refill(ctx, known, now)
	}
	if c.next == nil {
		position, err := c.store.Published(ctx)
		if errors.Is(err, postgres.ErrNoCheckpoint) {
			return nil // the reader is about to create it
		}
		if err != nil {
			return err
		}
		if now, first, err = c.bus.state(ctx); err != nil { // what it says is in the stream by now, at the latest
			return err
		}
		if known.Lost(now) { // meanwhile
			return c.refill(ctx, known, now)
		}
		c.next, c.upTo = &position, now.Sequence
	}
	if first <= c.upTo {
		return c.advance(ctx, now)
	}
	if err := c.store.Confirm(ctx, *c.next, now); err != nil {
		return err
	}
	c.known, c.next = now, nil
	return nil
}

// advance stores how far the stream is filled, where that has changed.
func (c *confirmer) advance(ctx context.Context, now postgres.StreamMark) error {
	if now == c.known {
		return nil
	}
	err := c.store.Note(ctx, now)
	if errors.Is(err, postgres.ErrNoCheckpoint) {
		return c.first(ctx) // somebody deleted it
	}
	if err == nil {
		c.known = now
	}
	return err
}

func (c *confirmer) refill(ctx context.Context, known, now postgres.StreamMark) error {
	c.log.Warn("the stream lost events that it had taken: those that no worker has confirmed are published again",
		slog.Uint64("published", known.Sequence), slog.Uint64("there", now.Sequence), slog.Bool("created_again", !known.Created.Equal(now.Created)))
	err := c.store.Refill(ctx, now)
	if errors.Is(err, postgres.ErrNoCheckpoint) {
		err = nil // an operator asked for more already
	}
	if err != nil {
		return err
	}
	c.relay.Forget()
	c.known, c.next = now, nil
	return nil
}

func (c *confirmer) mark(now postgres.StreamMark, first uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks = &streamMarks{now.Sequence, max(first, 1) - 1}
}

// reached returns what the last look saw, nil before the first.
func (c *confirmer) reached() *streamMarks {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marks
}

func (c *confirmer) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *confirmer) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
