package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/postgres"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	retryPause     = time.Second     // between two tries at what a lost server interrupted
	wakeRetryMax   = time.Minute     // between two tries at the wake-up trigger, each of which holds writers up
	probeEvery     = 2 * time.Second // how soon what stalls shows in /readyz
	releaseTimeout = time.Second     // for giving the lease back at the end, which else expires
	parkedAhead    = 256             // parked deliveries handed out at the same time

	// Readiness checks, and what to do when they fail.
	postgresCheck = "postgres"
	postgresFix   = "check that the server runs and that transport.postgres.url reaches it"
	readingCheck  = "change_log"
	readingFix    = "it goes on by itself once the error is gone; the log tells more"
)

var errLeaseNotRenewed = errors.New("the lease could not be renewed for three seconds: no action is started until it is")

// runPostgres reads the change log whenever this process leads, and stands by while another does.
func (p *Pipeline) runPostgres(ctx context.Context) error {
	cfg := p.plan.cfg.Transport.Postgres
	p.health.Fail(postgresCheck, "no connection yet", postgresFix)
	pool, err := p.prepare(ctx, cfg)
	if err != nil {
		return endOf(ctx, err)
	}
	defer pool.Close()
	p.health.OK(postgresCheck)
	p.warnUncaptured(ctx, pool)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watchRedis(ctx) })
	group.Go(func() error {
		return p.leading(ctx, pool, cfg, func(ctx context.Context, lease *postgres.Lease) error { return p.lead(ctx, pool, cfg, lease) })
	})
	return endOf(ctx, group.Wait())
}

// leading runs term whenever this process leads the listener of cfg, until ctx ends.
func (p *Pipeline) leading(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config, term func(context.Context, *postgres.Lease) error) error {
	group, ctx := errgroup.WithContext(ctx)
	tried := make(chan struct{})
	group.Go(func() error { p.probe(ctx, postgresCheck, postgresFix, pool.Ping); return nil })
	group.Go(func() error { return p.installWake(ctx, pool, cfg, sync.OnceFunc(func() { close(tried) })) })
	group.Go(func() error {
		<-tried
		for ctx.Err() == nil {
			if err := p.takeTurn(ctx, pool, cfg, term); err != nil {
				return err
			}
		}
		return errEnded
	})
	return group.Wait()
}

// errEnded ends the group without being an error of the run.
var errEnded = errors.New("ended")

// endOf forgets an error that is only the end of ctx.
func endOf(ctx context.Context, err error) error {
	if errors.Is(err, errEnded) || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// prepare connects and sees to it that the database has our objects. It waits, and says so in /readyz, for a server that
// does not answer.
func (p *Pipeline) prepare(ctx context.Context, cfg postgres.Config) (*pgxpool.Pool, error) {
	trouble := outage.New(p.log, "waiting for postgres", "postgres answers")
	for {
		pool, err := postgres.Connect(ctx, cfg, p.log)
		if err == nil {
			if err = p.prepareSchema(ctx, pool, cfg); err == nil {
				trouble.OK()
				return pool, nil
			}
			pool.Close()
		}
		if postgres.IsFatal(err) || ctx.Err() != nil {
			return nil, err
		}
		p.health.Fail(postgresCheck, err.Error(), postgresFix)
		trouble.Failed(err)
		pause(ctx, retryPause)
	}
}

func (p *Pipeline) prepareSchema(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config) error {
	if !cfg.AutoMigrate {
		return postgres.SchemaCurrent(ctx, pool)
	}
	return postgres.Migrate(ctx, pool, p.log)
}

// installWake installs the wake-up trigger where we may. That needs a moment in which no transaction writes to the log, so
// it may take as long as the longest of them; until then the reader polls. It calls tried after the first try.
func (p *Pipeline) installWake(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config, tried func()) error {
	defer tried()
	if !cfg.AutoMigrate || cfg.Wake != "notify" {
		return nil
	}
	for wait := retryPause; ; wait = min(2*wait, wakeRetryMax) {
		err := postgres.EnsureWake(ctx, pool, cfg.NotifyChannel, cfg.WakeForced)
		tried()
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case postgres.IsFatal(err):
			return err
		}
		p.log.Warn("wake-up trigger not installed yet, reading every poll_interval_secs meanwhile", slog.Any("error", err), slog.Duration("retry_in", wait))
		pause(ctx, wait)
	}
}

// takeTurn waits for the lease and leads until ctx ends or another process takes over.
func (p *Pipeline) takeTurn(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config, term func(context.Context, *postgres.Lease) error) error {
	lease, err := postgres.Acquire(ctx, postgres.LeaseConfig{
		Pool: pool, Config: cfg, Name: cfg.ListenerName, StartFrom: cfg.StartFrom, Log: p.log,
		Standby: func() { p.become("standby") },
	})
	if err != nil {
		return err
	}
	p.log.Info("leading", slog.String("listener", cfg.ListenerName), slog.Int64("generation", lease.Generation()))
	p.become("leader")
	p.metrics.Leader.Set(1)
	err = term(ctx, lease)
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if releaseErr := lease.Release(release); releaseErr != nil && !errors.Is(releaseErr, postgres.ErrDeposed) {
		p.log.Warn("lease not released, it expires by itself", slog.Any("error", releaseErr))
	}
	if errors.Is(err, postgres.ErrDeposed) {
		p.become("standby")
		p.log.Warn("another process took over, standing by", slog.String("listener", cfg.ListenerName))
		return nil
	}
	return err
}

// become says whether this process leads or stands by.
func (p *Pipeline) become(state string) {
	p.turn.Store(&state)
	p.health.Become(state)
}

// lead runs one term of leadership.
func (p *Pipeline) lead(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config, lease *postgres.Lease) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	maxDeliver := p.plan.cfg.Transport.NATS.JetStream.MaxDeliver
	reader := postgres.NewReader(postgres.ReaderConfig{Config: cfg, Pool: pool, Lease: lease, MaxDeliver: maxDeliver, Tracked: true, Log: p.log})
	queue, err := postgres.NewRetryQueue(postgres.RetryQueueConfig{DB: pool, Listener: cfg.ListenerName, Fence: lease, MaxDeliver: maxDeliver, Log: p.log})
	if err != nil {
		return err
	}
	dead := &postgres.DeadLetters{DB: pool, Listener: cfg.ListenerName, Fence: lease}
	perf := p.plan.cfg.Performance
	events, err := p.over(reader, window.Config{Size: perf.ChannelCapacity, Batch: cfg.BatchSize})
	if err != nil {
		return err
	}
	parked, err := p.over(queue, window.Config{Size: parkedAhead, Batch: parkedAhead})
	if err != nil {
		return err
	}
	dedup, err := p.openDedup(func() (middleware.DedupStore, func()) {
		store := postgres.NewDedup(pool, cfg.ListenerName)
		return store, store.Close
	})
	if err != nil {
		return err
	}
	var beside sync.WaitGroup
	beside.Go(func() { postgres.RunDedupCleanup(ctx, pool, p.log) }) // also of what was left before deduplication was turned off
	beside.Go(func() { p.report(ctx, &p.stats.events, figuresOf(reader, queue, dead)) })
	beside.Go(func() { p.watchDeadLetters(ctx, dead.Waiting) })
	beside.Go(func() { p.watchReading(ctx, reader, lease) })
	beside.Go(func() { p.watchCaptures(ctx, listCaptures(pool)) })
	beside.Go(func() {
		postgres.RunRetention(ctx, postgres.RetentionConfig{DB: pool, Days: cfg.RetentionDays, Held: lease.Held, Log: p.log})
	})
	beside.Go(func() {
		select {
		case <-lease.Lost():
			cancel()
		case <-ctx.Done():
		}
	})
	err = p.serve(ctx, wiring{
		sources:    []source{{"*", events}, {"retries", parked}},
		retryQueue: queue, deadLetters: dead, held: lease.Held, dedup: dedup,
	})
	cancel()
	beside.Wait()
	dedup.close()
	return err
}

func figuresOf(reader *postgres.Reader, queue *postgres.RetryQueue, dead *postgres.DeadLetters) func(context.Context) (figures, error) {
	return func(ctx context.Context) (figures, error) {
		s := reader.Stats()
		letters, err := dead.Count(ctx, deadletter.Filter{})
		parked, oldest, queueErr := queue.Waiting(ctx)
		return figures{backlog: s.Backlog, age: s.OldestAge, parked: parked, parkedAge: oldest, dead: int64(letters)}, errors.Join(err, queueErr)
	}
}

// watchReading shows in /readyz why nothing is read or started, although the server may answer.
func (p *Pipeline) watchReading(ctx context.Context, reader *postgres.Reader, lease *postgres.Lease) {
	p.probe(ctx, readingCheck, readingFix, func(context.Context) error {
		if !lease.Held() {
			p.metrics.Leader.Set(0)
			return errLeaseNotRenewed
		}
		p.metrics.Leader.Set(1)
		return reader.Stats().Err
	})
	p.metrics.Leader.Set(0)
	p.health.OK(readingCheck) // a standby reads nothing
}

// over returns a subscriber with one subscription, which is to read driver in batches as cfg says.
func (p *Pipeline) over(driver window.Driver, cfg window.Config) (*window.Subscriber, error) {
	cfg.Open = func(context.Context, string) (window.Driver, error) { return driver, nil }
	cfg.Direct, cfg.DrainTimeout, cfg.Log = true, p.plan.cfg.Performance.ShutdownTimeout, p.log
	s, err := window.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("build subscriber: %w", err)
	}
	return s, nil
}

// probe asks again and again, until ctx ends, and shows in /readyz what the answer is.
func (p *Pipeline) probe(ctx context.Context, check, fix string, ask func(context.Context) error) {
	for pause(ctx, probeEvery) {
		patience, cancel := context.WithTimeout(ctx, probeEvery)
		err := ask(patience)
		cancel()
		if err != nil && ctx.Err() == nil {
			p.health.Fail(check, postgres.Diagnose(err).Error(), fix)
		} else {
			p.health.OK(check)
		}
	}
}

// pause reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
