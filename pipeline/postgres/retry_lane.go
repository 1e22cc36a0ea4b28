package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/dispatch"
)

// A lane of parked deliveries leaves one by one. All but its first carry the mark "follows", which the first takes off the
// next when it goes. What goes and what comes in one lane must not cross, or the newcomer follows nobody: the queue writes
// lanes one statement at a time, and looks now and then for what a crash or a hand has left marked.

// healEvery is how often it looks.
const healEvery = 10 * time.Second

// inLane selects the rows of the lane l; its columns are listener, observer, action and lane.
const inLane = `m.listener = l.listener and m.observer = l.observer and m.action = l.action and m.lane = l.lane`

// parkedLane names a lane of the queue; one without a lane is none.
type parkedLane struct{ observer, action, lane string }

// heal takes the mark off every row that is the first of its lane.
func (q *RetryQueue) heal(ctx context.Context) error {
	if time.Since(q.healed) < healEvery {
		return nil
	}
	q.lanes.Lock()
	defer q.lanes.Unlock()
	err := q.write(ctx, "look after parked lanes", fence+`, promoted as (
		update core.tb_observer_retry r set follows = false from lease
		 where r.follows and r.pk_observer_retry in (
		       select min(pk_observer_retry) from core.tb_observer_retry where listener = $1 and lane is not null group by observer, action, lane)
	)
	select exists (select from lease)`)
	if err == nil {
		q.healed = time.Now()
	}
	return err
}

// Lanes lists the lanes that are parked.
func (q *RetryQueue) Lanes(ctx context.Context) ([]dispatch.Lane, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := q.cfg.DB.Query(ctx, `select observer, action, lane, count(*) from core.tb_observer_retry
		where listener = $1 and lane is not null group by observer, action, lane`, q.cfg.Listener)
	if err != nil {
		return nil, wrap("read parked lanes", err)
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dispatch.Lane])
	return lanes, wrap("read parked lanes", err)
}
