package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// Fence tells which lease generation this process writes under; below 1 it does not lead.
type Fence interface {
	Generation() int64
}

// DeadLetters keeps what failed for good in core.tb_observer_dead_letter. A zero Listener sees the dead letters of every
// listener; Put needs one.
type DeadLetters struct {
	DB       DB
	Listener string
	Fence    Fence // nil: writes are not fenced
}

var _ middleware.DeadLetters = (*DeadLetters)(nil)

const putDeadLetter = fence + `, unparked as (
    delete from core.tb_observer_retry r using lease
     where r.listener = $1 and r.event_id = $3 and r.observer = $4 and r.action = $5
), stored as (
    insert into core.tb_observer_dead_letter as d
        (listener, event_id, observer, action, generation, entity, event, attempts, error, error_class, first_failed_at, last_failed_at)
    select $1, $3, $4, $5, $6::bigint::integer, $7, $8::text::jsonb, $9::text::jsonb, $10, $11, $12::timestamptz, $13::timestamptz from lease
    on conflict (listener, event_id, observer, action) do update set
        generation = greatest(d.generation, excluded.generation), event = excluded.event, attempts = excluded.attempts,
        error = excluded.error, error_class = excluded.error_class, last_failed_at = excluded.last_failed_at,
        first_failed_at = least(d.first_failed_at, excluded.first_failed_at), retrying = false
)
select exists (select from lease)`

// Put implements middleware.DeadLetters. The parked entry of the same delivery goes in the same statement. Of an event that
// jsonb cannot hold the dead letter says which one it was and why it is missing.
func (l *DeadLetters) Put(ctx context.Context, d *event.Delivery) error {
	last := event.Attempt{At: time.Now(), Class: "error"}
	first := last.At
	if n := len(d.Attempts); n > 0 {
		last, first = d.Attempts[n-1], d.Attempts[0].At
	}
	attempts, err := encodeAttempts(d)
	if err != nil {
		return err
	}
	put := func(event *string) (held bool, err error) {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		defer cancel()
		err = l.DB.QueryRow(ctx, putDeadLetter, l.Listener, generationOf(l.Fence), d.Event.ID, d.Observer, d.Action, int64(d.Generation), d.Event.Entity,
			event, attempts, storable(last.Error), storable(last.Class), first, last.At).Scan(&held)
		return held, err
	}
	event := string(d.Event.JSON())
	held, err := put(&event)
	if unstorable(err) {
		last.Error += " (the event itself cannot be kept: " + err.Error() + ")"
		held, err = put(nil)
	}
	if err != nil {
		return wrap("store dead letter", err)
	}
	if !held {
		return fmt.Errorf("store dead letter: %w", ErrDeposed)
	}
	return nil
}

// generationOf is 0 only without a fence: a fence that does not lead must match no lease row.
func generationOf(f Fence) int64 {
	if f == nil {
		return 0
	}
	if g := f.Generation(); g > 0 {
		return g
	}
	return -1
}

// unstorable reports whether jsonb cannot hold the event that was to be written.
func unstorable(err error) bool {
	return hasCode(err, codeUntranslatable, codeInvalidText, codeProgramLimit)
}

// encodeAttempts marks each attempt with its generation: those that were not there before are of the present one.
func encodeAttempts(d *event.Delivery) (string, error) {
	clean := make([]event.Attempt, len(d.Attempts))
	for i, a := range d.Attempts {
		clean[i] = event.Attempt{At: a.At, Error: storable(a.Error), Class: storable(a.Class), Generation: a.Generation}
		if i >= d.Prior {
			clean[i].Generation = d.Generation
		}
	}
	b, err := json.Marshal(clean)
	if err != nil {
		return "", fmt.Errorf("encode attempts: %w", err)
	}
	return string(b), nil
}

// storable removes what Postgres cannot keep in text: error texts may quote what a receiver sent.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

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
	Observer string
	After    time.Time // last failed after this
	Limit    int       // 0: 100
	Offset   int
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
	where ($1 = '' or d.listener = $1) and ($2 = '' or d.observer = $2) and ($3::timestamptz is null or d.last_failed_at > $3::timestamptz)`
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
	rows, err := l.DB.Query(ctx, `select `+deadLetterColumns+` from (select d.*`+deadLetterFilter+` order by d.last_failed_at desc, d.pk_observer_dead_letter desc limit $4 offset $5) d`+
		withReplay+` order by d.last_failed_at desc, d.pk_observer_dead_letter desc`,
		l.Listener, f.Observer, nullTime(f.After), int64(f.Limit), int64(f.Offset))
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
	err = l.DB.QueryRow(ctx, `select count(*)`+deadLetterFilter, l.Listener, f.Observer, nullTime(f.After)).Scan(&n)
	return n, wrap("count dead letters", err)
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
