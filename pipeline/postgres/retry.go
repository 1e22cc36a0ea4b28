package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/window"
)

// statementTimeout bounds every statement of deliveries: a connection that died silently would hold its caller for many
// minutes.
const statementTimeout = 10 * time.Second

// RetryQueueConfig describes a [RetryQueue]. All fields but Log are required.
type RetryQueueConfig struct {
	DB       DB // a pool: it is used from several goroutines
	Listener string
	Fence    Fence
	// MaxDeliver is how many starts without an outcome (the process died) make a delivery a dead letter. The first is
	// presumed of everything that was claimed at a crash, so fewer than two cannot be told apart.
	MaxDeliver int
	Log        *slog.Logger
}

// RetryQueue keeps deliveries in core.tb_observer_retry until their next attempt and feeds them back when due, during one
// term of leadership. As a window.Driver it never has two claims on a row at once. What a dead process had claimed is
// suspect: suspects are handed out one at a time, each with a durable start mark, and one that has a mark already while
// nothing else of the queue runs. Only such marks count as starts. What started too often, or cannot be read, is handed out
// as well, for a dead letter: see window.MetadataPoison.
type RetryQueue struct {
	cfg        RetryQueueConfig
	generation int64
	dead       *DeadLetters    // for what Spill cannot store
	busy       func() []string // topics to leave alone; nil: none
	limited    atomic.Bool     // some topics were left alone the last time
	poke       chan struct{}   // one slot: a second poke before the first is seen tells nothing new

	lanes  sync.Mutex // held while a lane is written, see retry_lane.go
	healed time.Time  // used by Fetch only

	looked   bool    // suspects is complete; used by Fetch only
	suspects []int64 // rows that may have ended a process and were not handed out yet, those with a mark first

	mu      sync.Mutex            // guards what follows
	claims  map[int64]*claimState // by row: what is out, or has an outcome that the database was not told yet
	suspect claim                 // the one that is out
	alone   bool                  // nothing else may run beside it
}

var (
	_ middleware.RetryQueue = (*RetryQueue)(nil)
	_ window.Driver         = (*RetryQueue)(nil)
)

// NewRetryQueue returns the retry queue of one listener.
func NewRetryQueue(cfg RetryQueueConfig) (*RetryQueue, error) {
	if cfg.DB == nil || cfg.Listener == "" || cfg.Fence == nil || cfg.MaxDeliver < 1 {
		return nil, errors.New("retry queue: DB, Listener, Fence and MaxDeliver are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &RetryQueue{
		cfg:        cfg,
		generation: generationOf(cfg.Fence),
		dead:       &DeadLetters{DB: cfg.DB, Listener: cfg.Listener, Fence: cfg.Fence},
		poke:       make(chan struct{}, 1),
		claims:     make(map[int64]*claimState),
	}, nil
}

// park keeps a row its place in its lane. One that gives its lane up lets the next go on.
const park = fence + `, l as (
    select r.* from core.tb_observer_retry r, lease
     where r.listener = $1 and r.event_id = $3 and r.observer = $4 and r.action = $5 and r.lane is not null and $11 = ''
), promoted as (
    update core.tb_observer_retry n set follows = false from l
     where n.pk_observer_retry = (select min(m.pk_observer_retry) from core.tb_observer_retry m where ` + inLane + ` and m.pk_observer_retry <> l.pk_observer_retry)
), parked as (
    insert into core.tb_observer_retry as r (listener, event_id, observer, action, generation, entity, event, attempts, not_before, lane, follows)
    select $1, $3, $4, $5, $6::bigint::integer, $7, $8::text::jsonb, $9::text::jsonb, statement_timestamp() + $10::bigint * interval '1 microsecond', nullif($11, ''),
           $11 <> '' and exists (select from core.tb_observer_retry m where m.listener = $1 and m.observer = $4 and m.action = $5 and m.lane = $11) from lease
    on conflict (listener, event_id, observer, action) do update set
        generation = greatest(r.generation, excluded.generation), attempts = excluded.attempts, not_before = excluded.not_before, lane = excluded.lane,
        follows = r.follows and excluded.lane is not null, claimed_by = null, starts = 0
)
select exists (select from lease)`

// wait is the time until notBefore in microseconds. A row is due by the server's clock: ours may differ, or be set meanwhile.
func wait(notBefore time.Time) int64 { return time.Until(notBefore).Microseconds() }

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	attempts, err := encodeAttempts(d)
	if err != nil {
		return err
	}
	if d.Lane != "" {
		q.lanes.Lock()
		defer q.lanes.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var held bool
	err = q.cfg.DB.QueryRow(ctx, park, q.cfg.Listener, q.generation, d.Event.ID, d.Observer, d.Action, int64(d.Generation), d.Event.Entity,
		string(d.Event.JSON()), attempts, wait(notBefore), d.Lane).Scan(&held)
	switch {
	case unstorable(err):
		return event.Permanent(wrap("park delivery", err))
	case err != nil:
		return wrap("park delivery", err)
	case !held:
		return fmt.Errorf("park delivery: %w", ErrDeposed)
	}
	q.wake()
	return nil
}

// Waiting returns how many deliveries are parked or handed out for another attempt, and for how long the oldest of them
// has been so.
func (q *RetryQueue) Waiting(ctx context.Context) (n int64, oldest time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var micros int64
	err = q.cfg.DB.QueryRow(ctx, `select (select count(*) from core.tb_observer_retry where listener = $1), coalesce((
		select extract(epoch from clock_timestamp() - created_at) * 1000000 from core.tb_observer_retry
		 where listener = $1 order by pk_observer_retry limit 1), 0)::bigint`, q.cfg.Listener).Scan(&n, &micros)
	return n, time.Duration(micros) * time.Microsecond, wrap("count parked deliveries", err)
}

func (q *RetryQueue) wake() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}
