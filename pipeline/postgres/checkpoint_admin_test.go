package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
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
		"now":             {"now", []string{"4"}},
		"the beginning":   {"beginning", []string{"1", "2", "3", "4"}},
		"a time":          {between.UTC().Format(time.RFC3339Nano), []string{"3", "4"}},
		"a time long ago": {"2000-01-01T00:00:00Z", []string{"1", "2", "3", "4"}},
	} {
		require.NoError(t, SetCheckpoint(t.Context(), pool, name, tc.to))
	}
	emitKeys(t, pool, "4")
	list, err := ListCheckpoints(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, list, 4)
	backlog := map[string]int64{}
	for _, c := range list {
		require.False(t, c.Foreign)
		backlog[c.Name] = c.Backlog
	}
	require.Equal(t, []string{"4"}, unread(t, pool, "now"))
	require.Equal(t, []string{"1", "2", "3", "4"}, unread(t, pool, "the beginning"))
	require.Equal(t, []string{"3", "4"}, unread(t, pool, "a time"))
	require.Equal(t, []string{"1", "2", "3", "4"}, unread(t, pool, "a time long ago"))
	require.Equal(t, map[string]int64{"now": 1, "the beginning": 4, "a time": 2, "a time long ago": 4}, backlog)

	require.ErrorContains(t, SetCheckpoint(t.Context(), pool, "x", "2999-01-01T00:00:00+02:00"), "is yet to come")
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

func TestARepairLeavesWhatAnotherReaderOfThisClusterHasToRead(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	require.NoError(t, SetCheckpoint(t.Context(), pool, "here", "now"))
	emitKeys(t, pool, "1", "2")
	execSQL(t, pool, `insert into tb_observer_checkpoint (transport_name, snapshot_from, system_identifier) values ('restored', '10:10:', '123')`)
	require.NoError(t, SetCheckpoint(t.Context(), pool, "restored", "beginning"))
	require.Equal(t, []string{"1", "2"}, unread(t, pool, "here"))
	require.Equal(t, []string{"1", "2"}, unread(t, pool, "restored"))
}

// TestARepairIsRefusedWhileAnotherReaderOfThisClusterIsBehind: a row that was written after a savepoint looks like one that came with the dump.
func TestARepairIsRefusedWhileAnotherReaderOfThisClusterIsBehind(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	require.NoError(t, SetCheckpoint(t.Context(), pool, "here", "now"))
	execSQL(t, pool, `begin; savepoint s; select core.emit_event('Order', '{}', '1'); release s; commit`)
	emitKeys(t, pool, "2")
	execSQL(t, pool, `insert into tb_observer_checkpoint (transport_name, snapshot_from, system_identifier) values ('restored', '10:10:', '123')`)
	for name, repair := range map[string]func() error{
		"set":    func() error { return SetCheckpoint(t.Context(), pool, "restored", "now") },
		"remove": func() error { return RemoveCheckpoint(t.Context(), pool, "restored") },
	} {
		require.ErrorContains(t, repair(), "here has rows of this one to read", name)
		require.Equal(t, []string{"1", "2"}, unread(t, pool, "here"), name)
	}
	require.NoError(t, SetCheckpoint(t.Context(), pool, "here", "beginning"), "the position that is behind itself may move")
	require.Equal(t, []string{"1", "2"}, unread(t, pool, "here"))
}

// TestARepairWaitsForWhatCommitsMeanwhile: a row that it did not see would be of this cluster and count as read.
func TestARepairWaitsForWhatCommitsMeanwhile(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	require.NoError(t, SetCheckpoint(t.Context(), pool, "here", "now"))
	execSQL(t, pool, `insert into tb_observer_checkpoint (transport_name, snapshot_from, system_identifier) values ('restored', '10:10:', '123')`)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	execSQL(t, tx, `savepoint s`)
	emitKeys(t, tx, "late")
	execSQL(t, tx, `release s`)
	repaired := make(chan error, 1)
	go func() { repaired <- SetCheckpoint(t.Context(), pool, "restored", "now") }()
	testenv.Eventually(t, 10*time.Second, func() error {
		if queryOne[int](t, pool, `select count(*) from pg_locks where not granted and relation = 'core.tb_entity_change_log'::regclass`) == 0 {
			return errors.New("the repair does not wait")
		}
		return nil
	})
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorContains(t, <-repaired, "here has rows of this one to read")
	require.Equal(t, []string{"late"}, unread(t, pool, "here"))
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
