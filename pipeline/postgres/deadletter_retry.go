package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Retry parks a dead letter under the next generation, due now, for the process that leads its listener. The dead letter
// goes when the delivery has succeeded. It reports false when a replay is parked already: then it changes nothing.
func (l *DeadLetters) Retry(ctx context.Context, id int64) (parked bool, err error) {
	err = pgx.BeginFunc(ctx, l.DB, func(tx pgx.Tx) error {
		var event bool
		err := tx.QueryRow(ctx, `select event is not null from core.tb_observer_dead_letter
			where pk_observer_dead_letter = $1 and ($2 = '' or listener = $2) for update`, id, l.Listener).Scan(&event)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		if !event {
			return fmt.Errorf("dead letter %d holds no event that could be delivered again", id)
		}
		parked, err = replay(ctx, tx, id)
		return err
	})
	return parked, wrap("retry dead letter", err)
}

func replay(ctx context.Context, tx pgx.Tx, id int64) (bool, error) {
	tag, err := tx.Exec(ctx, `with parked as (
		insert into core.tb_observer_retry (listener, event_id, observer, action, generation, entity, event, attempts, not_before)
		select listener, event_id, observer, action, generation + 1, entity, event, attempts, clock_timestamp()
		  from core.tb_observer_dead_letter where pk_observer_dead_letter = $1
		on conflict do nothing
		returning 1
	)
	update core.tb_observer_dead_letter set retrying = true, generation = generation + 1
	 where pk_observer_dead_letter = $1 and exists (select from parked)`, id)
	return tag.RowsAffected() > 0, err
}
