package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
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

var (
	_ middleware.DeadLetters = (*DeadLetters)(nil)
	_ deadletter.Store       = (*DeadLetters)(nil)
)

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
