package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	retentionBatch = 1000
	retentionPause = 20 * time.Millisecond // between batches: others come first
	keptReminder   = 24 * time.Hour
)

// RetentionConfig describes [RunRetention].
type RetentionConfig struct {
	DB DB // a pool
	// Days a row of the change log is kept at least; 0 keeps all.
	Days int
	// Interval between runs. Default 5 minutes.
	Interval time.Duration
	// Held says whether this process leads; only a leader deletes. Nil: always.
	Held func() bool
	Log  *slog.Logger
}

// RunRetention deletes, every few minutes until ctx ends, rows of the change log that are old and that every checkpoint
// has passed. Of a checkpoint that keeps such rows, because nothing reads under its name any more or is that far behind, it
// warns once a day.
func RunRetention(ctx context.Context, cfg RetentionConfig) {
	if cfg.Days <= 0 {
		return
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 5 * time.Minute
	}
	var told time.Time
	for sleep(ctx, cfg.Interval) == nil {
		if cfg.Held != nil && !cfg.Held() {
			continue
		}
		before := time.Now().AddDate(0, 0, -cfg.Days)
		n, err := DeleteOldRows(ctx, cfg.DB, before)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			cfg.Log.Warn("cannot delete old rows of the change log", slog.Any("error", err))
		case n > 0:
			cfg.Log.Info("old rows of the change log deleted", slog.Int64("rows", n))
		}
		if time.Since(told) < keptReminder {
			continue
		}
		names, err := keepers(ctx, cfg.DB, before)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			cfg.Log.Warn("cannot tell what keeps old rows of the change log", slog.Any("error", err))
		case len(names) > 0:
			told = time.Now()
			cfg.Log.Warn("the change log keeps rows beyond retention_days, since a checkpoint has not passed them: start what reads under its name, or run: observer checkpoint remove NAME",
				slog.Any("names", names))
		}
	}
}

// keepers names the checkpoints that have not passed the first row of the log, when it was made before the given time.
func keepers(ctx context.Context, db DB, before time.Time) ([]string, error) {
	rows, err := db.Query(ctx, `
		select c.transport_name
		  from (select tx_id, created_at from core.tb_entity_change_log order by pk_entity_change_log limit 1) first,
		       public.tb_observer_checkpoint c, `+here+`
		 where first.created_at < $1 and (not `+ours+` or not pg_visible_in_snapshot(first.tx_id, c.snapshot_from))
		 order by 1`, before)
	if err != nil {
		return nil, wrap("find checkpoints that keep old rows", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, wrap("find checkpoints that keep old rows", err)
}

// deleteBatch looks at the next $3 rows after $1 and deletes those that were made before $2, that every checkpoint
// has read and none has pending. Without a checkpoint, or with one of another database, nothing is deleted: who knows what was read.
const deleteBatch = `with page as (
		select pk_entity_change_log as pk, created_at, tx_id from core.tb_entity_change_log
		 where pk_entity_change_log > $1 order by pk_entity_change_log limit $3),
	reader as materialized (
		select c.snapshot_from, c.pending, ` + ours + ` as ours from public.tb_observer_checkpoint c, ` + here + `),
	gone as (
		delete from core.tb_entity_change_log l using page p
		 where l.pk_entity_change_log = p.pk and p.created_at < $2 and exists (select from reader)
		   and not exists (select from reader r where not r.ours or not pg_visible_in_snapshot(p.tx_id, r.snapshot_from) or p.pk = any (r.pending))
		returning 1)
	select coalesce((select max(pk) from page), 0), (select count(*) from page where created_at < $2), (select count(*) from gone)`

// DeleteOldRows deletes, in small transactions, the rows of the change log that were made before the given time and that
// every checkpoint has passed. It walks from the oldest row to the first thousand that are all younger.
func DeleteOldRows(ctx context.Context, db DB, before time.Time) (deleted int64, err error) {
	for last := int64(0); ; {
		var next, old, gone int64
		if err := db.QueryRow(ctx, deleteBatch, last, before, retentionBatch).Scan(&next, &old, &gone); err != nil {
			return deleted, wrap("delete old rows", fmt.Errorf("after row %d: %w", last, err))
		}
		deleted += gone
		if old == 0 {
			return deleted, nil
		}
		last = next
		if err := sleep(ctx, retentionPause); err != nil {
			return deleted, err
		}
	}
}
