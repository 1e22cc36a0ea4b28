package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/window"
)

// RetryQueueConfig describes a [RetryQueue]. All fields but Log are required.
type RetryQueueConfig struct {
	DB       DB // a pool: it is used from several goroutines
	Listener string
	Fence    Fence
	// MaxDeliver is how many starts without an outcome (the process died) make a delivery a dead letter.
	MaxDeliver int
	Log        *slog.Logger
}

// RetryQueue keeps deliveries in core.tb_observer_retry until their next attempt and feeds them back when due. As a
// window.Driver it never has two claims on a row at once. What a dead process had claimed is suspect: suspects are handed out one at a
// time, each with a durable start mark.
type RetryQueue struct {
	cfg  RetryQueueConfig
	dead *DeadLetters
	poke chan struct{} // one slot: a second poke before the first is seen tells nothing new

	mu         sync.Mutex         // guards what follows
	out        map[int64]int64    // rows that are handed out, and the number of their claim
	settled    map[claim]struct{} // succeeded, and the database was not told yet
	returned   map[claim]struct{} // given back, and the database was not told yet
	generation int64              // whose suspects were looked for
	suspects   bool               // there may be more of them
	suspect    int64              // the one that is out, 0 for none
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
		cfg:      cfg,
		dead:     &DeadLetters{DB: cfg.DB, Listener: cfg.Listener, Fence: cfg.Fence},
		poke:     make(chan struct{}, 1),
		out:      make(map[int64]int64),
		settled:  make(map[claim]struct{}),
		returned: make(map[claim]struct{}),
	}, nil
}

const park = fenced + `, parked as (
    insert into core.tb_observer_retry as r (listener, event_id, observer, action, generation, entity, event, attempts, not_before)
    select $1, $3, $4, $5, $6::bigint::integer, $7, $8::text::jsonb, $9::text::jsonb, $10::timestamptz from lease
    on conflict (listener, event_id, observer, action) do update set
        generation = greatest(r.generation, excluded.generation), attempts = excluded.attempts, not_before = excluded.not_before,
        claimed_by = null, starts = 0
)
select exists (select from lease)`

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	attempts, err := encodeAttempts(d.Attempts)
	if err != nil {
		return err
	}
	var held bool
	err = q.cfg.DB.QueryRow(ctx, park, q.cfg.Listener, generationOf(q.cfg.Fence), d.Event.ID, d.Observer, d.Action, int64(d.Generation), d.Event.Entity,
		string(d.Event.JSON()), attempts, notBefore).Scan(&held)
	if err != nil {
		return wrap("park delivery", err)
	}
	if !held {
		return fmt.Errorf("park delivery: %w", ErrDeposed)
	}
	q.wake()
	return nil
}

func (q *RetryQueue) wake() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}
