package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// deadLetterColumns include what a parked replay has added.
const deadLetterColumns = `d.pk_observer_dead_letter, d.event_id, d.observer, d.action, d.entity, jsonb_array_length(coalesce(r.attempts, d.attempts)),
	d.error, d.error_class, d.first_failed_at, d.last_failed_at, d.generation, d.retrying, d.listener,
	coalesce(r.not_before, '0001-01-01 00:00:00Z'), coalesce(r.attempts -> -1 ->> 'error', d.error), coalesce(r.attempts -> -1 ->> 'class', d.error_class)`

func targets(d *deadletter.Letter) []any {
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
func (l *DeadLetters) List(ctx context.Context, f deadletter.Filter) (items []deadletter.Letter, total int, err error) {
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
	items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d deadletter.Letter, err error) {
		return d, row.Scan(targets(&d)...)
	})
	return items, total, wrap("list dead letters", err)
}

// Count returns how many dead letters the filter selects, whatever its limit and offset.
func (l *DeadLetters) Count(ctx context.Context, f deadletter.Filter) (n int, err error) {
	err = l.DB.QueryRow(ctx, `select count(*)`+deadLetterFilter, l.selected(f)...).Scan(&n)
	return n, wrap("count dead letters", err)
}

// selected are the arguments of deadLetterFilter, and more.
func (l *DeadLetters) selected(f deadletter.Filter, more ...any) []any {
	return append([]any{l.Listener, f.Observer, f.Class, nullTime(f.After), nullTime(f.Before)}, more...)
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Get returns one dead letter with its event and every attempt, an error that wraps [ErrNotFound] when there is none.
func (l *DeadLetters) Get(ctx context.Context, id int64) (*deadletter.Letter, error) {
	var d deadletter.Letter
	var attempts []byte
	err := l.DB.QueryRow(ctx, `select `+deadLetterColumns+`, coalesce(d.event::text, 'null'), coalesce(r.attempts, d.attempts)::text
		from core.tb_observer_dead_letter d`+withReplay+` where d.pk_observer_dead_letter = $1 and ($2 = '' or d.listener = $2)`, id, l.Listener).Scan(append(targets(&d), (*[]byte)(&d.Event), &attempts)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, deadletter.ErrNotFound)
	}
	if err != nil {
		return nil, wrap("read dead letter", err)
	}
	if err := json.Unmarshal(attempts, &d.History); err != nil {
		return nil, fmt.Errorf("read dead letter %d: attempts: %w", id, err)
	}
	return &d, nil
}
