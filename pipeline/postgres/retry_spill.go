package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// spill asks for others of each lane by a scalar subquery: an exists is taken for a reason to hash the whole table.
const spill = fence + `, spilled as (
    insert into core.tb_observer_retry (listener, event_id, observer, action, generation, entity, event, attempts, not_before, lane, follows)
    select $1, c.event_id, c.observer, c.action, c.generation, c.entity, c.event::jsonb, c.attempts::jsonb, statement_timestamp() + c.wait * interval '1 microsecond', nullif(c.lane, ''),
           c.lane <> '' and (row_number() over (partition by c.observer, c.action, c.lane order by c.place) > 1
               or coalesce((select true from core.tb_observer_retry m where m.listener = $1 and m.observer = c.observer and m.action = c.action and m.lane = c.lane limit 1), false))
      from lease, unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[]) with ordinality
           as c (event_id, observer, action, generation, entity, event, attempts, wait, lane, place)
     order by c.place
    on conflict do nothing
)
select exists (select from lease)`

// Spill parks deliveries that have not failed, in their order. One that is parked already stays as it is. What jsonb cannot
// hold becomes a dead letter.
func (q *RetryQueue) Spill(ctx context.Context, list []dispatch.Spilled) error {
	err := q.spill(ctx, list)
	if !unstorable(err) {
		return err
	}
	for _, s := range list {
		one := q.spill(ctx, []dispatch.Spilled{s})
		if unstorable(one) {
			one = q.dead.Put(ctx, refused(s.Delivery, one))
		}
		if one != nil {
			return one
		}
	}
	return nil
}

func refused(d *event.Delivery, err error) *event.Delivery {
	dead := *d
	dead.Attempts = append(slices.Clip(dead.Attempts), event.Attempt{At: time.Now(), Error: err.Error(), Class: "unstorable"})
	return &dead
}

func (q *RetryQueue) spill(ctx context.Context, list []dispatch.Spilled) error {
	n := len(list)
	ids, observers, actions, entities, events, attempts, lanes := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	generations, waits := make([]int64, n), make([]int64, n)
	now := time.Now() // one for all: what is due at the same moment keeps its order
	for i, s := range list {
		d := s.Delivery
		tried, err := encodeAttempts(d)
		if err != nil {
			return err
		}
		ids[i], observers[i], actions[i], generations[i], entities[i] = d.Event.ID, d.Observer, d.Action, int64(d.Generation), d.Event.Entity
		events[i], attempts[i], waits[i], lanes[i] = string(d.Event.JSON()), tried, s.NotBefore.Sub(now).Microseconds(), d.Lane
	}
	q.lanes.Lock()
	defer q.lanes.Unlock()
	if err := q.write(ctx, "park deliveries", spill, ids, observers, actions, generations, entities, events, attempts, waits, lanes); err != nil {
		return err
	}
	q.wake()
	return nil
}

// Avoid sets what lists the topics for which nothing is to be handed out for now, and must be called before the first Fetch.
func (q *RetryQueue) Avoid(busy func() []string) { q.busy = busy }

func (q *RetryQueue) avoided() []string {
	if q.busy == nil {
		return []string{}
	}
	if topics := q.busy(); topics != nil {
		return topics
	}
	return []string{}
}
