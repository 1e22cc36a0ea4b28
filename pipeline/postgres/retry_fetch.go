package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// retryPoll is how often the queue looks for what another process parked: dlq retry.
const retryPoll = time.Second

// Fetch implements window.Driver. While this process does not lead it waits.
func (q *RetryQueue) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		wait := retryPoll
		if generation := q.cfg.Fence.Generation(); generation > 0 {
			items, next, err := q.due(ctx, generation, limit)
			if err != nil || len(items) > 0 {
				return items, err
			}
			wait = next
		}
		if err := q.sleep(ctx, wait); err != nil {
			return nil, fmt.Errorf("fetch retries: %w", err)
		}
	}
}

func (q *RetryQueue) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.poke:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// due claims what is due now, or says how long to wait.
func (q *RetryQueue) due(ctx context.Context, generation int64, limit int) ([]window.Item, time.Duration, error) {
	if err := q.flush(ctx); err != nil && !errors.Is(err, ErrDeposed) {
		return nil, 0, err
	}
	items, err := q.nextSuspect(ctx, generation)
	if err != nil {
		return nil, 0, err
	}
	if room := limit - len(items); room > 0 {
		fresh, err := q.claim(ctx, generation, false, room)
		items = append(items, fresh...)
		if err != nil {
			return items, 0, err
		}
	}
	if len(items) > 0 {
		return items, 0, nil
	}
	wait, err := q.untilNext(ctx, generation)
	return nil, wait, err
}

// nextSuspect returns at most one of the deliveries that an earlier generation started without an outcome, and none while
// another one is out.
func (q *RetryQueue) nextSuspect(ctx context.Context, generation int64) ([]window.Item, error) {
	q.mu.Lock()
	if q.generation != generation {
		q.generation, q.suspects, q.suspect = generation, true, 0
	}
	look := q.suspects && q.suspect == 0
	q.mu.Unlock()
	if !look {
		return nil, nil
	}
	if err := q.buryExhausted(ctx, generation); err != nil {
		return nil, err
	}
	items, err := q.claim(ctx, generation, true, 1)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(items) == 0 {
		q.suspects = false
		return nil, nil
	}
	q.suspect = items[0].Raw.(claim).row
	q.cfg.Log.Warn("delivery was running when its process died: it runs alone", "event_id", items[0].Msg.UUID)
	return items, nil
}

const claimRows = fenced + `, due as (
    select r.pk_observer_retry from core.tb_observer_retry r, lease
     where r.listener = $1 and (r.not_before <= clock_timestamp() or $4) and r.claimed_by is distinct from $2 and (r.starts > 0) = $4
     order by r.not_before, r.pk_observer_retry limit $3 for update of r skip locked
), taken as (
    update core.tb_observer_retry r set claimed_by = $2, claims = r.claims + 1, starts = r.starts + 1
      from due where r.pk_observer_retry = due.pk_observer_retry
    returning r.*
)
select pk_observer_retry, claims, event_id, observer, action, generation, entity, event::text, attempts::text
  from taken order by not_before, pk_observer_retry`

func (q *RetryQueue) claim(ctx context.Context, generation int64, suspects bool, limit int) ([]window.Item, error) {
	rows, err := q.cfg.DB.Query(ctx, claimRows, q.cfg.Listener, generation, int64(limit), suspects)
	if err != nil {
		return nil, wrap("claim retries", err)
	}
	parked, err := pgx.CollectRows(rows, scanParked)
	if err != nil {
		return nil, wrap("claim retries", err)
	}
	var bad error
	items := make([]window.Item, 0, len(parked))
	for _, p := range parked {
		item, err := p.item()
		if err != nil {
			bad = errors.Join(bad, q.dead.Put(ctx, p.buried(err, "decode")))
			continue
		}
		items = append(items, item)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range items {
		c := item.Raw.(claim)
		q.out[c.row] = c.number
	}
	return items, bad
}

type parkedRow struct {
	claim
	eventID, observer, action, entity string
	generation                        int
	event, attempts                   []byte
}

func scanParked(row pgx.CollectableRow) (p parkedRow, err error) {
	err = row.Scan(&p.row, &p.number, &p.eventID, &p.observer, &p.action, &p.generation, &p.entity, &p.event, &p.attempts)
	return p, err
}

func (p *parkedRow) delivery() (*event.Delivery, error) {
	d := &event.Delivery{Observer: p.observer, Action: p.action, Generation: p.generation}
	if err := json.Unmarshal(p.attempts, &d.Attempts); err != nil {
		return nil, fmt.Errorf("decode attempts: %w", err)
	}
	var err error
	d.Event, err = event.Decode(p.event)
	return d, err
}

func (p *parkedRow) item() (window.Item, error) {
	d, err := p.delivery()
	if err != nil {
		return window.Item{}, err
	}
	msg := message.NewMessage(p.eventID, p.event)
	msg.SetContext(event.NewContext(event.WithEvent(msg.Context(), d.Event), d))
	return window.Item{Msg: msg, Raw: p.claim}, nil
}

// buried is the dead letter of a row. It need not be readable: somebody may have changed it by hand.
func (p *parkedRow) buried(err error, class string) *event.Delivery {
	d, decodeErr := p.delivery()
	if decodeErr != nil {
		d = &event.Delivery{
			Event:    &event.Event{ID: p.eventID, Type: event.Custom, Entity: p.entity, Timestamp: time.Now()},
			Observer: p.observer, Action: p.action, Generation: p.generation,
		}
	}
	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now(), Error: err.Error(), Class: class})
	return d
}

const exhausted = `select pk_observer_retry, claims, event_id, observer, action, generation, entity, event::text, attempts::text
  from core.tb_observer_retry
 where listener = $1 and starts >= $3 and claimed_by is distinct from $2 order by pk_observer_retry limit 100`

var errStarts = errors.New("the process died each time while this delivery ran")

// buryExhausted makes dead letters of what has used up its starts.
func (q *RetryQueue) buryExhausted(ctx context.Context, generation int64) error {
	for {
		rows, err := q.cfg.DB.Query(ctx, exhausted, q.cfg.Listener, generation, int64(q.cfg.MaxDeliver))
		if err != nil {
			return wrap("read retries", err)
		}
		list, err := pgx.CollectRows(rows, scanParked)
		if err != nil {
			return wrap("read retries", err)
		}
		if len(list) == 0 {
			return nil
		}
		for _, p := range list {
			q.cfg.Log.Error("delivery ended its process each time: it is a dead letter now", "event_id", p.eventID, "observer", p.observer, "action", p.action)
			if err := q.dead.Put(ctx, p.buried(errStarts, "poison")); err != nil {
				return err
			}
		}
	}
}

// untilNext says how long nothing will be due; at most retryPoll.
func (q *RetryQueue) untilNext(ctx context.Context, generation int64) (time.Duration, error) {
	var micros int64
	err := q.cfg.DB.QueryRow(ctx, `select coalesce(extract(epoch from min(not_before) - clock_timestamp()) * 1000000, $3)::bigint
		from core.tb_observer_retry where listener = $1 and claimed_by is distinct from $2 and starts = 0`,
		q.cfg.Listener, generation, retryPoll.Microseconds()).Scan(&micros)
	if err != nil {
		return 0, wrap("read retries", err)
	}
	return min(max(time.Duration(micros)*time.Microsecond, time.Millisecond), retryPoll), nil
}
