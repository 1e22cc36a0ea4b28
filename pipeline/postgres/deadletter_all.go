package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// Of many dead letters at once, this many ids are held in memory, and this many rows changed in one transaction.
const (
	idPage       = 100_000
	letterChunks = 1000
)

// RetryAll parks the selected dead letters that can be delivered again and are not yet, oldest first: in the order in which
// they failed first, which is per entity and action the order of the changes. Each thousand is parked in a transaction of its own; told, if
// it is not nil, is called after each with the number so far. Limit bounds how many. What it returns counts also when
// there is an error. In a copy of the database of one of their listeners it is refused with [ErrWrongCluster].
func (l *DeadLetters) RetryAll(ctx context.Context, f deadletter.Filter, told func(int)) (parked int, err error) {
	if err := l.checkReplays(ctx, f); err != nil {
		return 0, wrap("retry dead letters", err)
	}
	parked, err = l.each(ctx, f, isReady, replay, told)
	return parked, wrap("retry dead letters", err)
}

// checkReplays refuses replays of a listener of which this database is a copy.
func (l *DeadLetters) checkReplays(ctx context.Context, f deadletter.Filter) error {
	rows, err := l.DB.Query(ctx, `select distinct d.listener`+deadLetterFilter+` and `+isReady+` order by 1`, l.selected(f)...)
	if err != nil {
		return err
	}
	listeners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, listener := range listeners {
		if _, err := recognise(ctx, l.DB, listener); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAll deletes the selected dead letters that are not being delivered again, oldest first, as RetryAll parks them.
func (l *DeadLetters) RemoveAll(ctx context.Context, f deadletter.Filter, told func(int)) (removed int, err error) {
	removed, err = l.each(ctx, f, isAtRest, removeMany, told)
	return removed, wrap("remove dead letters", err)
}

const (
	isAtRest = `not ` + isRetrying
	isReady  = isReplayable + ` and ` + isAtRest

	removeMany = `delete from core.tb_observer_dead_letter where pk_observer_dead_letter in (
		select d.pk_observer_dead_letter from core.tb_observer_dead_letter d
		 where d.pk_observer_dead_letter = any ($1::bigint[]) and ` + isAtRest + ` for update skip locked)`
)

// letterPlace is the place of a dead letter in the order of first_failed_at.
type letterPlace struct {
	at time.Time
	id int64
}

// each executes a statement over the ids of the selected dead letters that fit a condition. What fails again meanwhile is
// behind it, so that one call takes each at most once.
func (l *DeadLetters) each(ctx context.Context, f deadletter.Filter, condition, statement string, told func(int)) (done int, err error) {
	for last := (letterPlace{}); ; {
		size := idPage
		if f.Limit > 0 {
			size = min(size, f.Limit-done)
		}
		ids, next, err := l.page(ctx, f, condition, last, size)
		if err != nil || len(ids) == 0 {
			return done, err
		}
		for chunk := range slices.Chunk(ids, letterChunks) {
			tag, err := l.DB.Exec(ctx, statement, chunk)
			if err != nil {
				return done, err
			}
			done += int(tag.RowsAffected())
			if told != nil {
				told(done)
			}
		}
		if last = next; len(ids) < size || f.Limit > 0 && done >= f.Limit {
			return done, nil
		}
	}
}

// page returns the ids of at most size selected dead letters that follow a place, oldest first, and the place of the last.
func (l *DeadLetters) page(ctx context.Context, f deadletter.Filter, condition string, after letterPlace, size int) (ids []int64, last letterPlace, err error) {
	rows, err := l.DB.Query(ctx, `select d.pk_observer_dead_letter, d.first_failed_at`+deadLetterFilter+` and `+condition+`
		  and (d.first_failed_at, d.pk_observer_dead_letter) > ($6::timestamptz, $7::bigint)
		order by d.first_failed_at, d.pk_observer_dead_letter limit $8`, l.selected(f, after.at, after.id, int64(size))...)
	if err != nil {
		return nil, last, err
	}
	_, err = pgx.ForEachRow(rows, []any{&last.id, &last.at}, func() error {
		ids = append(ids, last.id)
		return nil
	})
	return ids, last, err
}
