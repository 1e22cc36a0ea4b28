package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

const (
	isReplayable = `(d.event is not null and d.error_class <> 'unreadable')`
	// isRetrying is about the delivery, not the flag of the dead letter: the delivery may also be parked because the log
	// is delivered again.
	isRetrying = `exists (select from core.tb_observer_retry r
		where r.listener = d.listener and r.event_id = d.event_id and r.observer = d.observer and r.action = d.action)`
)

// replay parks dead letters under their next generation, due now, oldest first. Who holds one of them at the moment is
// about to settle or to park it: it is left to them. Whatever settles a delivery locks its parked entry before its dead
// letter; this takes only dead letters without an entry, so that neither waits for the other.
const replay = `with picked as materialized (
		select d.* from core.tb_observer_dead_letter d
		 where d.pk_observer_dead_letter = any ($1::bigint[]) and ` + isReplayable + ` and not ` + isRetrying + `
		 order by d.first_failed_at, d.pk_observer_dead_letter for update skip locked
	), parked as (
		insert into core.tb_observer_retry (listener, event_id, observer, action, generation, entity, event, attempts, not_before)
		select listener, event_id, observer, action, generation + 1, entity, event, attempts, clock_timestamp()
		  from picked order by first_failed_at, pk_observer_dead_letter
		on conflict do nothing
		returning listener, event_id, observer, action
	)
	update core.tb_observer_dead_letter d set retrying = true, generation = d.generation + 1 from parked p
	 where d.listener = p.listener and d.event_id = p.event_id and d.observer = p.observer and d.action = p.action`

// Retry parks a dead letter under the next generation, due now, for the process that leads its listener. The dead letter
// goes when the delivery has succeeded. It reports false when a replay is parked already: then it changes nothing. In a copy of
// the database of that listener it is refused with [ErrWrongCluster].
func (l *DeadLetters) Retry(ctx context.Context, id int64) (parked bool, err error) {
	err = pgx.BeginFunc(ctx, l.DB, func(tx pgx.Tx) error {
		var event bool
		var cause, class, listener string
		err := tx.QueryRow(ctx, `select event is not null, error, error_class, listener from core.tb_observer_dead_letter
			where pk_observer_dead_letter = $1 and ($2 = '' or listener = $2) for update`, id, l.Listener).Scan(&event, &cause, &class, &listener)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, deadletter.ErrNotFound)
		}
		if err != nil {
			return err
		}
		if err := deadletter.Replayable(id, event, cause, class); err != nil {
			return err
		}
		if _, err := recognise(ctx, tx, listener); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, replay, []int64{id})
		parked = tag.RowsAffected() > 0
		return err
	})
	return parked, wrap("retry dead letter", err)
}

// Idle implements deadletter.Store.
func (l *DeadLetters) Idle(ctx context.Context) ([]string, error) {
	rows, err := l.DB.Query(ctx, `select distinct d.listener from core.tb_observer_dead_letter d where d.retrying and not exists (
		select from core.tb_observer_lease l where l.name = d.listener and l.owner is not null and l.expires_at > clock_timestamp()) order by 1`)
	if err != nil {
		return nil, wrap("read leases", err)
	}
	listeners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return listeners, wrap("read leases", err)
}
