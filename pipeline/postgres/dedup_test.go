package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/middleware/deduptest"
)

func TestDedupStore(t *testing.T) {
	pool := migratedDB(t)
	open := func() *Dedup {
		d := NewDedup(pool, "observer")
		t.Cleanup(d.Close)
		return d
	}
	deduptest.Run(t, open(), open(), func(t *testing.T) {
		t.Helper()
		execSQL(t, pool, `truncate core.tb_observer_dedup`)
	})
}

// TestDedupStoreBehindAProxy runs it without prepared statements.
func TestDedupStoreBehindAProxy(t *testing.T) {
	url := testenv.Postgres(t)
	require.NoError(t, Migrate(t.Context(), connectTest(t, url), discard))
	pool, err := Connect(t.Context(), Config{URL: secret.String(url), Wake: "poll"}, discard)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	d := NewDedup(pool, "observer")
	t.Cleanup(d.Close)
	deduptest.Run(t, d, d, func(t *testing.T) {
		t.Helper()
		execSQL(t, pool, `truncate core.tb_observer_dedup`)
	})
}

func TestEachListenerKnowsItsOwnDeliveries(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	for _, listener := range []string{"a", "b"} {
		d := NewDedup(pool, listener)
		result, err := d.Claim(t.Context(), middleware.DedupKey{Event: "e"}, "me", time.Minute)
		require.NoError(t, err)
		require.Equal(t, middleware.Claimed, result)
		d.Close()
	}
}

func TestAWorkersRoleMayDeduplicate(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	role := newRole(t, pool)
	d := NewDedup(asRole(t, pool, role), "observer")
	t.Cleanup(d.Close)
	key := middleware.DedupKey{Event: "e\x00"}
	_, err := d.Claim(t.Context(), key, "me", time.Minute)
	require.ErrorContains(t, err, "claim delivery: ")
	require.ErrorContains(t, err, "--grant-worker")
	require.NoError(t, GrantWorker(t.Context(), pool, role))
	result, err := d.Claim(t.Context(), key, "me", time.Minute)
	require.NoError(t, err)
	require.Equal(t, middleware.Claimed, result)
	held, err := d.Confirm(t.Context(), key, "me", time.Minute)
	require.NoError(t, err)
	require.True(t, held)
}

func TestExpiredRecordsAreDeletedInBatches(t *testing.T) {
	t.Parallel()
	pool := migratedDB(t)
	execSQL(t, pool, `insert into core.tb_observer_dedup (listener, event_id, observer, action, generation, owner, done, expires_at)
		select 'observer', n::text, 'o', 'a', 0, 'me', true, clock_timestamp() + case when n <= 2500 then '-1 s' else '1 h' end::interval from generate_series(1, 2600) n`)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	execSQL(t, tx, `update core.tb_observer_dedup set expires_at = clock_timestamp() + interval '1 h' where event_id = '1'`)
	deleted, err := DeleteExpiredDedup(t.Context(), pool)
	require.NoError(t, err)
	require.EqualValues(t, 2499, deleted, "it passes by what is being claimed again")
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, int64(101), queryOne[int64](t, pool, `select count(*) from core.tb_observer_dedup`))
	tx, err = pool.Begin(t.Context())
	require.NoError(t, err)
	execSQL(t, tx, `set local enable_seqscan = off; set local enable_bitmapscan = off`)
	require.Contains(t, queryOne[string](t, tx, `explain (format json) `+expiredDedup), "Index Cond")
	require.NoError(t, tx.Rollback(t.Context()))
}
