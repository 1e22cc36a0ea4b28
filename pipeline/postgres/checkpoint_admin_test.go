package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// unread are the rows that the stored position of name has not read yet, as the reader defines it.
func unread(t *testing.T, db DB, name string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `select l.object_key from core.tb_entity_change_log l, public.tb_observer_checkpoint c
		where c.transport_name = $1 and pg_visible_in_snapshot(l.tx_id, pg_current_snapshot()) and not pg_visible_in_snapshot(l.tx_id, c.snapshot_from)
		  and (c.snapshot_to is null or not pg_visible_in_snapshot(l.tx_id, c.snapshot_to) or l.pk_entity_change_log > c.read_up_to) order by l.pk_entity_change_log`, name)
	require.NoError(t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return keys
}

func emitKeys(t *testing.T, db DB, keys ...string) {
	t.Helper()
	for _, key := range keys {
		execSQL(t, db, `select core.emit_event('Order', '{}', $1)`, key)
	}
}

func TestSetCheckpointMovesTheReadingPosition(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	emitKeys(t, pool, "1", "2")
	var between time.Time
	require.NoError(t, pool.QueryRow(t.Context(), `select clock_timestamp()`).Scan(&between))
	emitKeys(t, pool, "3")
	for name, tc := range map[string]struct {
		to   string
		want []string
	}{
		"now":                {"now", []string{"4"}},
		"the beginning":      {"beginning", []string{"1", "2", "3", "4"}},
		"a time":             {between.UTC().Format(time.RFC3339Nano), []string{"3", "4"}},
		"a time long ago":    {"2000-01-01T00:00:00Z", []string{"1", "2", "3", "4"}},
		"a time yet to come": {"2999-01-01T00:00:00+02:00", []string{"4"}},
	} {
		require.NoError(t, SetCheckpoint(t.Context(), pool, name, tc.to))
	}
	emitKeys(t, pool, "4")
	list, err := ListCheckpoints(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, list, 5)
	backlog := map[string]int64{}
	for _, c := range list {
		require.False(t, c.Foreign)
		backlog[c.Name] = c.Backlog
	}
	require.Equal(t, []string{"4"}, unread(t, pool, "now"))
	require.Equal(t, []string{"1", "2", "3", "4"}, unread(t, pool, "the beginning"))
	require.Equal(t, []string{"3", "4"}, unread(t, pool, "a time"))
	require.Equal(t, []string{"1", "2", "3", "4"}, unread(t, pool, "a time long ago"))
	require.Equal(t, []string{"4"}, unread(t, pool, "a time yet to come"))
	require.Equal(t, map[string]int64{"now": 1, "the beginning": 4, "a time": 2, "a time long ago": 4, "a time yet to come": 1}, backlog)

	require.ErrorContains(t, SetCheckpoint(t.Context(), pool, "x", "yesterday"), "write now, beginning or a time such as")
}

func TestEveryChangeOfACheckpointRaisesItsEpoch(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	epoch := func() int64 { return queryOne[int64](t, pool, `select epoch from tb_observer_checkpoint`) }
	require.NoError(t, SetCheckpoint(t.Context(), pool, "observer", "now"))
	execSQL(t, pool, `update tb_observer_checkpoint set pending = '{1}', starts = '{2}', alone = 1`)
	first := epoch()
	require.NoError(t, SetCheckpoint(t.Context(), pool, "observer", "beginning"))
	second := epoch()
	require.Greater(t, second, first)
	require.Equal(t, "{} {} true", queryOne[string](t, pool, `select pending::text || ' ' || starts::text || ' ' || (alone is null) from tb_observer_checkpoint`))

	require.NoError(t, RemoveCheckpoint(t.Context(), pool, "observer"))
	require.ErrorIs(t, RemoveCheckpoint(t.Context(), pool, "observer"), ErrNotFound)
	require.NoError(t, SetCheckpoint(t.Context(), pool, "observer", "now"))
	require.Greater(t, epoch(), second, "also of a row that was removed and made again")
}

// TestSetCheckpointRepairsARestoredLog plays a dump from a cluster that had handed out more transaction ids.
func TestSetCheckpointRepairsARestoredLog(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	emitKeys(t, pool, "old", "ahead")
	execSQL(t, pool, `update core.tb_entity_change_log set tx_id = '99999999' where object_key = 'ahead'`)
	for _, name := range []string{"a", "b"} {
		require.NoError(t, SetCheckpoint(t.Context(), pool, name, "now"))
	}
	execSQL(t, pool, `update core.tb_entity_change_log set tx_id = '99999999' where object_key = 'ahead'; update tb_observer_checkpoint set system_identifier = '1'`)
	list, err := ListCheckpoints(t.Context(), pool)
	require.NoError(t, err)
	require.True(t, list[0].Foreign && list[1].Foreign)

	require.NoError(t, SetCheckpoint(t.Context(), pool, "a", "beginning"))
	require.Equal(t, []string{"old", "ahead"}, unread(t, pool, "a"))
	emitKeys(t, pool, "new")
	written := queryOne[string](t, pool, `select tx_id::text from core.tb_entity_change_log where object_key = 'new'`)

	require.NoError(t, SetCheckpoint(t.Context(), pool, "b", "now"))
	require.Equal(t, []string{"old", "ahead", "new"}, unread(t, pool, "a"))
	require.Empty(t, unread(t, pool, "b"))
	require.Equal(t, written, queryOne[string](t, pool, `select tx_id::text from core.tb_entity_change_log where object_key = 'new'`), "a's unread row is not touched")
}

func TestRemovingAForeignCheckpointRepairsTheLogToo(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	emitKeys(t, pool, "old")
	require.NoError(t, SetCheckpoint(t.Context(), pool, "a", "now"))
	execSQL(t, pool, `update core.tb_entity_change_log set tx_id = '99999999'; update tb_observer_checkpoint set system_identifier = '1'`)
	require.NoError(t, RemoveCheckpoint(t.Context(), pool, "a"))
	require.Equal(t, "3", queryOne[string](t, pool, `select tx_id::text from core.tb_entity_change_log`))
}
