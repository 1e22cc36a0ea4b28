package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// stopReplay deletes the parked replay of a dead letter, unless a living process has it in work: that would store what
// became of it, and so bring the dead letter back. A claim that waits for this sees that the entry is gone.
const stopReplay = `delete from core.tb_observer_retry r using core.tb_observer_dead_letter d
	where d.pk_observer_dead_letter = $1 and d.retrying and r.generation >= d.generation
	  and r.listener = d.listener and r.event_id = d.event_id and r.observer = d.observer and r.action = d.action
	  and (r.claimed_by is null or not exists (select from core.tb_observer_lease l
	      where l.name = r.listener and l.generation = r.claimed_by and l.owner is not null and l.expires_at > clock_timestamp()))`

const removeOne = `delete from core.tb_observer_dead_letter d where d.pk_observer_dead_letter = $1
	and (not d.retrying or not exists (select from core.tb_observer_retry r where r.generation >= d.generation
	    and r.listener = d.listener and r.event_id = d.event_id and r.observer = d.observer and r.action = d.action))`

// Remove deletes a dead letter and returns it as it was. A parked replay goes with it, in the same transaction; while one
// is in work nothing is changed and the error wraps [deadletter.ErrInWork].
func (l *DeadLetters) Remove(ctx context.Context, id int64) (removed *deadletter.Letter, err error) {
	err = pgx.BeginFunc(ctx, l.DB, func(tx pgx.Tx) error {
		if removed, err = (&DeadLetters{DB: tx, Listener: l.Listener}).Get(ctx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, stopReplay, id); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, removeOne, id)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		if _, err := (&DeadLetters{DB: tx}).Get(ctx, id); err != nil {
			return err // it went meanwhile
		}
		return fmt.Errorf("dead letter %d: %w", id, deadletter.ErrInWork)
	})
	if err != nil {
		return nil, wrap("remove dead letter", err)
	}
	return removed, nil
}
