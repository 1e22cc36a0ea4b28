package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer/pipeline/window"
)

// claim identifies one hand-out of a row: the row and the number of the claim.
type claim struct{ row, number int64 }

type outcome int

const (
	handedOut outcome = iota
	succeeded         // or what became of it is stored elsewhere
	returned
)

// claimState is what became of the latest claim on a row.
type claimState struct {
	number  int64
	outcome outcome
	delay   time.Duration // until one that was returned is due again
	telling bool          // the database is being told
	lane    parkedLane    // in which others may wait for it
}

// acknowledge lets the next of each lane go on.
const acknowledge = fence + `, done as (
    delete from core.tb_observer_retry r using lease, unnest($3::bigint[], $4::bigint[]) as c (id, number)
     where r.pk_observer_retry = c.id and r.claims = c.number and r.claimed_by = $2 and r.listener = $1
    returning r.pk_observer_retry, r.event_id, r.observer, r.action, r.generation
), l as (
    select distinct $1 as listener, c.observer, c.action, c.lane from lease, unnest($5::text[], $6::text[], $7::text[]) as c (observer, action, lane) where c.lane <> ''
), promoted as (
    update core.tb_observer_retry n set follows = false from l
     where n.follows and n.pk_observer_retry = (
           select min(m.pk_observer_retry) from core.tb_observer_retry m where ` + inLane + ` and m.pk_observer_retry not in (select pk_observer_retry from done))
), replayed as (
    delete from core.tb_observer_dead_letter d using done
     where d.listener = $1 and d.event_id = done.event_id and d.observer = done.observer and d.action = done.action
       and d.retrying and d.generation <= done.generation
)
select exists (select from lease)`

const giveBack = fence + `, back as (
    update core.tb_observer_retry r set claimed_by = null, starts = 0, not_before = clock_timestamp() + c.delay * interval '1 microsecond'
      from lease, unnest($3::bigint[], $4::bigint[], $5::bigint[]) as c (id, number, delay)
     where r.pk_observer_retry = c.id and r.claims = c.number and r.claimed_by = $2 and r.listener = $1
)
select exists (select from lease)`

const giveBackAll = fence + `, back as (
    update core.tb_observer_retry r set claimed_by = null, starts = 0 from lease where r.claimed_by = $2 and r.listener = $1
)
select exists (select from lease)`

// Ack implements window.Driver: the deliveries succeeded, or what became of them is stored elsewhere. A row that was
// parked again, or became a dead letter, meanwhile is left alone. With the row of a replay goes its dead letter. What the
// database could not be told is told again by the next Fetch, Ack, Nack or Close.
func (q *RetryQueue) Ack(ctx context.Context, items []window.Item) error {
	laned := q.settle(items, succeeded, 0)
	err := q.flush(ctx)
	if laned || q.limited.Load() && len(q.known()) == 0 { // looking past what is for a busy endpoint costs something
		q.wake()
	}
	return err
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	q.settle([]window.Item{item}, returned, delay)
	err := q.flush(ctx)
	q.wake()
	return err
}

// Close implements window.Driver. Until ctx ends it tries to tell every outcome; only then all that this generation had
// claimed is given back, so that the next process neither repeats what succeeded nor takes the rest for what killed this
// one.
func (q *RetryQueue) Close(ctx context.Context) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := q.giveBackAll(ctx)
		if err == nil || errors.Is(err, ErrDeposed) || sleep(ctx, wait) != nil {
			return err
		}
	}
}

func (q *RetryQueue) giveBackAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout/4) // leaves time for another try on another connection
	defer cancel()
	if err := q.flush(ctx); err != nil {
		return err
	}
	return q.write(ctx, "give back retries", giveBackAll)
}

// settle remembers outcomes, and reports whether there are any in lanes. A claim that is not known any more needs none: the
// row was parked and handed out again.
func (q *RetryQueue) settle(items []window.Item, o outcome, delay time.Duration) (laned bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range items {
		c := item.Raw.(claim)
		if s := q.claims[c.row]; s != nil && s.number == c.number {
			s.outcome, s.delay = o, delay
			laned = laned || s.lane.lane != ""
		} else {
			q.release(c)
		}
	}
	return laned
}

// flush tells the database what it was not told yet.
func (q *RetryQueue) flush(ctx context.Context) error {
	return errors.Join(
		q.tell(ctx, succeeded, "acknowledge retries", acknowledge),
		q.tell(ctx, returned, "give back retries", giveBack),
	)
}

// tell writes one kind of outcome, and forgets the claims when it is written or refused.
func (q *RetryQueue) tell(ctx context.Context, o outcome, what, statement string) error {
	var rows, numbers, delays []int64
	var observers, actions, lanes []string
	q.mu.Lock()
	for row, s := range q.claims {
		if s.outcome == o && !s.telling {
			s.telling = true
			rows, numbers, delays = append(rows, row), append(numbers, s.number), append(delays, s.delay.Microseconds())
			observers, actions, lanes = append(observers, s.lane.observer), append(actions, s.lane.action), append(lanes, s.lane.lane)
		}
	}
	q.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	args := []any{rows, numbers, delays}
	if o == succeeded {
		args = []any{rows, numbers, observers, actions, lanes}
		q.lanes.Lock()
		defer q.lanes.Unlock()
	}
	err := q.write(ctx, what, statement, args...)
	q.told(rows, numbers, err == nil || errors.Is(err, ErrDeposed))
	return err
}

func (q *RetryQueue) told(rows, numbers []int64, forget bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, row := range rows {
		s := q.claims[row]
		switch {
		case s == nil || s.number != numbers[i]:
		case forget:
			delete(q.claims, row)
		default:
			s.telling = false
			continue
		}
		q.release(claim{row, numbers[i]})
	}
}

// release lets the next suspect run after c. The caller holds mu.
func (q *RetryQueue) release(c claim) {
	if q.suspect == c {
		q.suspect, q.alone = claim{}, false
		q.wake()
	}
}

// write executes a fenced statement.
func (q *RetryQueue) write(ctx context.Context, what, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var held bool
	if err := q.cfg.DB.QueryRow(ctx, statement, append([]any{q.cfg.Listener, q.generation}, args...)...).Scan(&held); err != nil {
		return wrap(what, err)
	}
	if !held {
		return fmt.Errorf("%s: %w", what, ErrDeposed)
	}
	return nil
}
