package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fraiseql/observer/pipeline/window"
)

// claim identifies one hand-out of a row: the row and the number of the claim.
type claim struct{ row, number int64 }

const acknowledge = fenced + `, done as (
    delete from core.tb_observer_retry r using lease, unnest($3::bigint[], $4::bigint[]) as c (id, number)
     where r.pk_observer_retry = c.id and r.claims = c.number and r.claimed_by = $2 and r.listener = $1
    returning r.event_id, r.observer, r.action, r.generation
), replayed as (
    delete from core.tb_observer_dead_letter d using done
     where d.listener = $1 and d.event_id = done.event_id and d.observer = done.observer and d.action = done.action
       and d.retrying and d.generation <= done.generation
)
select exists (select from lease)`

const giveBack = fenced + `, back as (
    update core.tb_observer_retry r set claimed_by = null, starts = 0, not_before = clock_timestamp() + $5::bigint * interval '1 microsecond'
      from lease, unnest($3::bigint[], $4::bigint[]) as c (id, number)
     where r.pk_observer_retry = c.id and r.claims = c.number and r.claimed_by = $2 and r.listener = $1
)
select exists (select from lease)`

// Ack implements window.Driver: the deliveries succeeded, or what became of them is stored elsewhere. A row that was
// parked again, or became a dead letter, meanwhile is left alone. With the row of a replay goes its dead letter. What the
// database could not be told is told again by the next Fetch, Ack or Close.
func (q *RetryQueue) Ack(ctx context.Context, items []window.Item) error {
	q.mu.Lock()
	for _, item := range items {
		q.settled[item.Raw.(claim)] = struct{}{}
	}
	q.mu.Unlock()
	return q.flush(ctx)
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	c := item.Raw.(claim)
	err := q.tell(ctx, giveBack, "give back retries", []claim{c}, delay.Microseconds())
	if err != nil && !errors.Is(err, ErrDeposed) {
		q.mu.Lock()
		q.returned[c] = struct{}{}
		q.mu.Unlock()
	}
	q.wake()
	return err
}

// Close implements window.Driver: what is still out is given back, so that the next process does not take it for what
// killed this one.
func (q *RetryQueue) Close(ctx context.Context) error {
	err := q.flush(ctx)
	q.mu.Lock()
	var left []claim
	for row, number := range q.out {
		left = append(left, claim{row, number})
	}
	q.mu.Unlock()
	if len(left) == 0 || errors.Is(err, ErrDeposed) {
		return err
	}
	return errors.Join(err, q.tell(ctx, giveBack, "give back retries", left, int64(0)))
}

// flush tells the database what it was not told yet.
func (q *RetryQueue) flush(ctx context.Context) error {
	q.mu.Lock()
	settled, returned := slices.Collect(maps.Keys(q.settled)), slices.Collect(maps.Keys(q.returned))
	q.mu.Unlock()
	var errs error
	if len(settled) > 0 {
		errs = q.tell(ctx, acknowledge, "acknowledge retries", settled)
	}
	if len(returned) > 0 {
		errs = errors.Join(errs, q.tell(ctx, giveBack, "give back retries", returned, int64(0)))
	}
	return errs
}

// tell writes the outcome of claims, and forgets them when it is written or refused.
func (q *RetryQueue) tell(ctx context.Context, statement, what string, claims []claim, args ...any) error {
	ids, numbers := make([]int64, len(claims)), make([]int64, len(claims))
	for i, c := range claims {
		ids[i], numbers[i] = c.row, c.number
	}
	var held bool
	err := q.cfg.DB.QueryRow(ctx, statement, append([]any{q.cfg.Listener, generationOf(q.cfg.Fence), ids, numbers}, args...)...).Scan(&held)
	if err != nil {
		return wrap(what, err)
	}
	q.forget(claims)
	if !held {
		return fmt.Errorf("%s: %w", what, ErrDeposed)
	}
	return nil
}

func (q *RetryQueue) forget(claims []claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range claims {
		delete(q.settled, c)
		delete(q.returned, c)
		if q.out[c.row] == c.number {
			delete(q.out, c.row)
		}
		if q.suspect == c.row {
			q.suspect = 0
			q.wake()
		}
	}
}
