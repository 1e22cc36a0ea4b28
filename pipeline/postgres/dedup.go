package postgres

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/batch"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/middleware"
)

// dedupBatch bounds the steps that share a transaction, which holds the locks of all.
const dedupBatch = 256

// Dedup keeps the record of deliveries in core.tb_observer_dedup, by the server's clock. The steps of concurrent callers share
// a round trip, a transaction and a connection of the pool. Expired rows count as gone; [DeleteExpiredDedup] deletes them.
type Dedup struct {
	db       DB
	listener string
	batcher  *batch.Batcher[dedupStep, int]
}

var _ middleware.DedupStore = (*Dedup)(nil)

// NewDedup returns the store of one listener in a database, which is a pool. The caller ends it with Close.
func NewDedup(db DB, listener string) *Dedup {
	d := &Dedup{db: db, listener: listener}
	d.batcher = batch.New(dedupBatch, d.send)
	return d
}

// Close waits for what is under way. No other method is called from then on.
func (d *Dedup) Close() { d.batcher.Wait() }

type dedupStep struct {
	sql   string
	key   middleware.DedupKey
	owner string
	time  time.Duration // of the lease or the window
}

// dedupGiven names the parameters for the statements below.
const dedupGiven = `with given as (
    select $1::text as listener, $2::text as event_id, $3::text as observer, $4::text as action, $5::bigint::integer as generation,
           $6::text as owner, clock_timestamp() + $7::bigint * interval '1 microsecond' as expires_at
)`

// What the last select sees is older than what the insert met, where another was quicker: then the answer is busy.
const dedupClaim = dedupGiven + `, put as (
    insert into core.tb_observer_dedup as d (listener, event_id, observer, action, generation, owner, done, expires_at)
    select listener, event_id, observer, action, generation, owner, false, expires_at from given
    on conflict (listener, event_id, observer, action) do update set
        generation = excluded.generation, owner = excluded.owner, done = false, expires_at = excluded.expires_at
     where d.expires_at <= clock_timestamp()
        or not d.done and d.generation = excluded.generation and d.owner = excluded.owner
        or d.done and d.generation < excluded.generation
    returning 1
)
select case
    when exists (select from put) then 0
    when exists (select from core.tb_observer_dedup d join given g using (listener, event_id, observer, action)
                  where d.expires_at > clock_timestamp() and d.done and d.generation >= g.generation) then 2
    else 1 end::bigint`

const dedupRenew = dedupGiven + `, put as (
    insert into core.tb_observer_dedup as d (listener, event_id, observer, action, generation, owner, done, expires_at)
    select listener, event_id, observer, action, generation, owner, false, expires_at from given
    on conflict (listener, event_id, observer, action) do update set
        generation = excluded.generation, owner = excluded.owner, done = false, expires_at = excluded.expires_at
     where d.expires_at <= clock_timestamp() or not d.done and d.generation = excluded.generation and d.owner = excluded.owner
    returning 1
)
select count(*) from put`

// The row as it was before tells whose the delivery was; put reads from old, so that it comes second.
const dedupConfirm = dedupGiven + `, old as materialized (
    select d.generation, d.owner from core.tb_observer_dedup d join given using (listener, event_id, observer, action)
     where d.expires_at > clock_timestamp() for update of d
), put as (
    insert into core.tb_observer_dedup as d (listener, event_id, observer, action, generation, owner, done, expires_at)
    select listener, event_id, observer, action, generation, owner, true, expires_at from given, (select count(*) from old) as waited
    on conflict (listener, event_id, observer, action) do update set
        generation = excluded.generation, owner = excluded.owner, done = true, expires_at = excluded.expires_at
     where d.expires_at <= clock_timestamp() or d.generation <= excluded.generation
)
select count(*) from given g where not exists (select from old where (old.generation, old.owner) <> (g.generation, g.owner))`

const dedupRelease = dedupGiven + `, gone as (
    delete from core.tb_observer_dedup d using given g
     where d.listener = g.listener and d.event_id = g.event_id and d.observer = g.observer and d.action = g.action
       and d.generation = g.generation and d.owner = g.owner and not d.done
    returning 1
)
select count(*) from gone`

// Claim implements middleware.DedupStore.
func (d *Dedup) Claim(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (middleware.ClaimResult, error) {
	n, err := d.batcher.Do(ctx, dedupStep{dedupClaim, key, owner, lease})
	return middleware.ClaimResult(n), wrap("claim delivery", err)
}

// Renew implements middleware.DedupStore.
func (d *Dedup) Renew(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (bool, error) {
	n, err := d.batcher.Do(ctx, dedupStep{dedupRenew, key, owner, lease})
	return n == 1, wrap("renew lease of delivery", err)
}

// Confirm implements middleware.DedupStore.
func (d *Dedup) Confirm(ctx context.Context, key middleware.DedupKey, owner string, window time.Duration) (bool, error) {
	n, err := d.batcher.Do(ctx, dedupStep{dedupConfirm, key, owner, window})
	return n == 1, wrap("confirm delivery", err)
}

// Release implements middleware.DedupStore.
func (d *Dedup) Release(ctx context.Context, key middleware.DedupKey, owner string) error {
	_, err := d.batcher.Do(ctx, dedupStep{dedupRelease, key, owner, 0})
	return wrap("release delivery", err)
}

// send runs all steps in one transaction, in the order of their keys, so that no two processes wait for each other.
func (d *Dedup) send(steps []dedupStep) []batch.Answer[int] {
	order := make([]int, len(steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(steps[a].key.String(), steps[b].key.String()) })
	answers := make([]batch.Answer[int], len(steps))
	if err := d.sendInOrder(steps, order, answers); err != nil { // none was taken
		for i := range answers {
			answers[i].Err = err
		}
	}
	return answers
}

// sendInOrder relies on what a batch is without a transaction around it: one of its own.
func (d *Dedup) sendInOrder(steps []dedupStep, order []int, answers []batch.Answer[int]) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	var b pgx.Batch
	for _, i := range order {
		s := steps[i]
		b.Queue(s.sql, d.listener, storable(s.key.Event), s.key.Observer, s.key.Action, int64(s.key.Generation), s.owner, s.time.Microseconds())
	}
	results := d.db.SendBatch(ctx, &b)
	for _, i := range order {
		if err := results.QueryRow().Scan(&answers[i].Value); err != nil {
			_ = results.Close() // it tells the same
			return err
		}
	}
	return results.Close()
}

// expiredDedup asks with now, since an index cannot serve clock_timestamp.
const expiredDedup = `select ctid from core.tb_observer_dedup where expires_at <= now()`

// DeleteExpiredDedup deletes, in small transactions, the records that have expired.
func DeleteExpiredDedup(ctx context.Context, db DB) (deleted int64, err error) {
	for {
		tag, err := db.Exec(ctx, `delete from core.tb_observer_dedup where ctid in (
			`+expiredDedup+` order by expires_at limit $1 for update skip locked)`, int64(retentionBatch))
		if err != nil {
			return deleted, wrap("delete expired records of deliveries", err)
		}
		deleted += tag.RowsAffected()
		if tag.RowsAffected() < retentionBatch {
			return deleted, nil
		}
		if err := sleep(ctx, retentionPause); err != nil {
			return deleted, err
		}
	}
}

// dedupCleanup is the time between two runs of RunDedupCleanup.
const dedupCleanup = time.Minute

// RunDedupCleanup deletes expired records every minute until ctx ends.
func RunDedupCleanup(ctx context.Context, db DB, log *slog.Logger) {
	trouble := outage.New(log, "expired records of deliveries are not deleted", "expired records of deliveries are deleted again")
	for sleep(ctx, dedupCleanup) == nil {
		_, err := DeleteExpiredDedup(ctx, db)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			trouble.Failed(err)
		default:
			trouble.OK()
		}
	}
}
