package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Replayable returns why the dead letter cannot be delivered again, nil when it can.
func (d *DeadLetter) Replayable() error {
	return replayable(d.ID, d.Event != nil && string(d.Event) != "null", d.Error, d.ErrorClass)
}

// replayable knows by its class what was captured without its data, or could not be read: its event is only what was
// known of it.
func replayable(id int64, event bool, cause, class string) error {
	switch {
	case !event:
		return fmt.Errorf("dead letter %d holds no event that could be delivered again", id)
	case class == "unreadable":
		return fmt.Errorf("dead letter %d holds no data that could be delivered: %q: write the row again, or emit the event", id, cause)
	}
	return nil
}

// Retry parks a dead letter under the next generation, due now, for the process that leads its listener. The dead letter
// goes when the delivery has succeeded. It reports false when a replay is parked already: then it changes nothing.
func (l *DeadLetters) Retry(ctx context.Context, id int64) (parked bool, err error) {
	err = pgx.BeginFunc(ctx, l.DB, func(tx pgx.Tx) error {
		var event bool
		var cause, class string
		err := tx.QueryRow(ctx, `select event is not null, error, error_class from core.tb_observer_dead_letter
			where pk_observer_dead_letter = $1 and ($2 = '' or listener = $2) for update`, id, l.Listener).Scan(&event, &cause, &class)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		if err := replayable(id, event, cause, class); err != nil {
			return err
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

// Led reports whether a process leads the listener now.
func Led(ctx context.Context, db DB, listener string) (led bool, err error) {
	err = db.QueryRow(ctx, `select exists (select from core.tb_observer_lease where name = $1 and owner is not null and expires_at > clock_timestamp())`,
		listener).Scan(&led)
	return led, wrap("read lease", err)
}
