package postgres

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetentionDeletesOnlyWhatEveryCheckpointHasPassed(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	left := func() (list []string) {
		t.Helper()
		rows, err := h.pool.Query(t.Context(), `select object_key from core.tb_entity_change_log order by pk_entity_change_log`)
		require.NoError(t, err)
		for rows.Next() {
			var key string
			require.NoError(t, rows.Scan(&key))
			list = append(list, key)
		}
		require.NoError(t, rows.Err())
		return list
	}
	clean := func() int64 {
		t.Helper()
		n, err := DeleteOldRows(t.Context(), h.pool, time.Now().AddDate(0, 0, -7))
		require.NoError(t, err)
		return n
	}
	kept := func() []string {
		t.Helper()
		names, err := keepers(t.Context(), h.pool, time.Now().AddDate(0, 0, -7))
		require.NoError(t, err)
		return names
	}
	old := func(from, to int) {
		h.emit(from, to)
		h.exec(`update core.tb_entity_change_log set created_at = created_at - interval '8 days' where created_at > now() - interval '1 day'`)
	}
	old(1, 3)
	require.Zero(t, clean(), "nobody has read anything")
	r := h.reader(h.acquire()) // starts behind 1 … 3
	r.none()
	require.NoError(t, createCheckpoint(t.Context(), h.pool, "slow", "beginning"))
	old(4, 6)
	items := r.take(3)
	r.ack(items[0], items[2])
	h.storedPending(1)
	require.Zero(t, clean(), "the other reader has read nothing")
	require.Equal(t, []string{"slow"}, kept())
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, "slow", "now"))
	h.emit(7, 7)
	r.ack(r.take(1)...)
	h.storedPending(1)
	h.exec(`update public.tb_observer_checkpoint set system_identifier = 'x' where transport_name = 'slow'`)
	require.Zero(t, clean(), "what a checkpoint of another cluster has read is unknown")
	require.Equal(t, []string{"slow"}, kept())
	require.NoError(t, RemoveCheckpoint(t.Context(), h.pool, "slow"))
	require.Empty(t, kept())
	require.Equal(t, int64(5), clean())
	require.Equal(t, []string{"5", "7"}, left(), "5 is pending, 7 is young")
}

func TestACheckpointThatKeepsOldRowsIsToldOnce(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	require.NoError(t, createCheckpoint(t.Context(), h.pool, "renamed", "beginning"))
	h.emit(1, 2)
	h.exec(`update core.tb_entity_change_log set created_at = created_at - interval '8 days'`)
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	RunRetention(ctx, RetentionConfig{DB: h.pool, Days: 7, Interval: 10 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.Equal(t, 1, strings.Count(log.String(), "names=[renamed]"), log.String())
	require.Contains(t, log.String(), "observer checkpoint remove")
}
