package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/event"
)

// DeadLetter is one stored dead letter.
type DeadLetter struct {
	ID            int64           `json:"id"`
	EventID       string          `json:"event_id"`
	Observer      string          `json:"observer"` // "" stands for the whole event
	Action        string          `json:"action"`
	Entity        string          `json:"entity"`
	Attempts      int             `json:"attempts"`
	Error         string          `json:"error"`
	ErrorClass    string          `json:"error_class"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	LastFailedAt  time.Time       `json:"last_failed_at"`
	Generation    int             `json:"generation"`
	Retrying      bool            `json:"retrying"`
	Listener      string          `json:"listener"`
	Event         json.RawMessage `json:"event,omitempty"`   // by Get only
	History       []event.Attempt `json:"history,omitempty"` // by Get only

	// While a replay is parked: when it is tried next, and why it failed last. Else the latter are Error and ErrorClass.
	NextAttempt          time.Time `json:"-"`
	LastError, LastClass string    `json:"-"`
}

// DeadLetterFilter selects dead letters; zero fields select all.
type DeadLetterFilter struct {
	Observer, Class string
	After, Before   time.Time // last failed after, before this
	Limit           int       // 0: 100 for List, all for RetryAll and RemoveAll; Count and Stats know none
	Offset          int       // List only
}

// deadLetterColumns include what a parked replay has added.
const deadLetterColumns = `d.pk_observer_dead_letter, d.event_id, d.observer, d.action, d.entity, jsonb_array_length(coalesce(r.attempts, d.attempts)),
	d.error, d.error_class, d.first_failed_at, d.last_failed_at, d.generation, d.retrying, d.listener,
	coalesce(r.not_before, '0001-01-01 00:00:00Z'), coalesce(r.attempts -> -1 ->> 'error', d.error), coalesce(r.attempts -> -1 ->> 'class', d.error_class)`

func (d *DeadLetter) targets() []any {
	return []any{
		&d.ID, &d.EventID, &d.Observer, &d.Action, &d.Entity, &d.Attempts, &d.Error, &d.ErrorClass,
		&d.FirstFailedAt, &d.LastFailedAt, &d.Generation, &d.Retrying, &d.Listener,
		&d.NextAttempt, &d.LastError, &d.LastClass,
	}
}

const (
	deadLetterFilter = ` from core.tb_observer_dead_letter d
	where ($1 = '' or d.listener = $1) and ($2 = '' or d.observer = $2) and ($3 = '' or d.error_class = $3)
	  and ($4::timestamptz is null or d.last_failed_at > $4::timestamptz) and ($5::timestamptz is null or d.last_failed_at < $5::timestamptz)`
	withReplay = ` left join core.tb_observer_retry r
	    on d.retrying and r.listener = d.listener and r.event_id = d.event_id and r.observer = d.observer and r.action = d.action`
)

// List returns the selected dead letters, latest first, and how many there are in all.
func (l *DeadLetters) List(ctx context.Context, f DeadLetterFilter) (items []DeadLetter, total int, err error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	if total, err = l.Count(ctx, f); err != nil {
		return nil, 0, err
	}
	rows, err := l.DB.Query(ctx, `select `+deadLetterColumns+` from (select d.*`+deadLetterFilter+` order by d.last_failed_at desc, d.pk_observer_dead_letter desc limit $6 offset $7) d`+
		withReplay+` order by d.last_failed_at desc, d.pk_observer_dead_letter desc`,
		l.selected(f, int64(f.Limit), int64(f.Offset))...)
	if err != nil {
		return nil, 0, wrap("list dead letters", err)
	}
	items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d DeadLetter, err error) {
		return d, row.Scan(d.targets()...)
	})
	return items, total, wrap("list dead letters", err)
}

// Count returns how many dead letters the filter selects, whatever its limit and offset.
func (l *DeadLetters) Count(ctx context.Context, f DeadLetterFilter) (n int, err error) {
	err = l.DB.QueryRow(ctx, `select count(*)`+deadLetterFilter, l.selected(f)...).Scan(&n)
	return n, wrap("count dead letters", err)
}

// selected are the arguments of deadLetterFilter, and more.
func (l *DeadLetters) selected(f DeadLetterFilter, more ...any) []any {
	return append([]any{l.Listener, f.Observer, f.Class, nullTime(f.After), nullTime(f.Before)}, more...)
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Get returns one dead letter with its event and every attempt, an error that wraps [ErrNotFound] when there is none.
func (l *DeadLetters) Get(ctx context.Context, id int64) (*DeadLetter, error) {
	var d DeadLetter
	var attempts []byte
	err := l.DB.QueryRow(ctx, `select `+deadLetterColumns+`, coalesce(d.event::text, 'null'), coalesce(r.attempts, d.attempts)::text
		from core.tb_observer_dead_letter d`+withReplay+` where d.pk_observer_dead_letter = $1 and ($2 = '' or d.listener = $2)`, id, l.Listener).Scan(append(d.targets(), (*[]byte)(&d.Event), &attempts)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, ErrNotFound)
	}
	if err != nil {
		return nil, wrap("read dead letter", err)
	}
	if err := json.Unmarshal(attempts, &d.History); err != nil {
		return nil, fmt.Errorf("read dead letter %d: attempts: %w", id, err)
	}
	return &d, nil
}
