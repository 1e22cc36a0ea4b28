package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	retentionBatch = 1000
	retentionPause = 20 * time.Millisecond // between batches: others come first
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
// has passed.
func RunRetention(ctx context.Context, cfg RetentionConfig) {
	if cfg.Days <= 0 {
		return
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 5 * time.Minute
	}
	for sleep(ctx, cfg.Interval) == nil {
		if cfg.Held != nil && !cfg.Held() {
			continue
		}
		n, err := DeleteOldRows(ctx, cfg.DB, time.Now().AddDate(0, 0, -cfg.Days))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			cfg.Log.Warn("cannot delete old rows of the change log", slog.Any("error", err))
		case n > 0:
			cfg.Log.Info("old rows of the change log deleted", slog.Int64("rows", n))
		}
	}
}

// deleteBatch looks at the next $3 rows after $1 and deletes those that were made before $2, that every checkpoint
// has read and none has pending. Without a checkpoint of this cluster nothing is deleted: nobody has read anything.
const deleteBatch = `with page as (
		select pk_entity_change_log as pk, created_at, tx_id from core.tb_entity_change_log
		 where pk_entity_change_log > $1 order by pk_entity_change_log limit $3),
	reader as materialized (
		select c.snapshot_from, c.pending, c.system_identifier = s.system_identifier::text as ours
		  from public.tb_observer_checkpoint c, pg_control_system() s),
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
