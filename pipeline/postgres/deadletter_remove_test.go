package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// replayed is a database with one dead letter whose replay is parked.
func replayed(t *testing.T) (*pgxpool.Pool, *DeadLetters, int64) {
	t.Helper()
	pool := leading(t)
	execSQL(t, pool, `update core.tb_observer_lease set owner = 'somebody', expires_at = clock_timestamp() + interval '1 hour'`)
	l := deadLetters(pool)
	require.NoError(t, l.Put(t.Context(), delivery("7", "shipped", "notify")))
	id := onlyDeadLetter(t, l).ID
	_, err := l.Retry(t.Context(), id)
	require.NoError(t, err)
	return pool, l, id
}

func gone(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Zero(t, parkedRows(t, pool))
	require.Zero(t, queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter`))
}

// TestAClaimAndARemovalRaceAndOneWins lets each find the other under way.
func TestAClaimAndARemovalRaceAndOneWins(t *testing.T) {
	t.Parallel()
	t.Run("the claim is first", func(t *testing.T) {
		t.Parallel()
		pool, l, id := replayed(t)
		tx := begin(t, pool)
		_, err := tx.Exec(t.Context(), `update core.tb_observer_retry set claimed_by = 1, claims = claims + 1`)
		require.NoError(t, err)
		removed := make(chan error, 1)
		go func() {
			_, err := l.Remove(t.Context(), id)
			removed <- err
		}()
		waitsForALock(t, pool, "delete from core.tb_observer_retry")
		require.NoError(t, tx.Commit(t.Context()))
		require.ErrorIs(t, <-removed, deadletter.ErrInWork)
		require.Equal(t, 1, parkedRows(t, pool))
	})
	t.Run("the removal is first", func(t *testing.T) {
		t.Parallel()
		pool, _, id := replayed(t)
		tx := begin(t, pool)
		_, err := (&DeadLetters{DB: tx}).Remove(t.Context(), id)
		require.NoError(t, err)
		q := newQueue(t, pool, 1)
		fetchNothing(t, q, 300*time.Millisecond)
		require.NoError(t, tx.Commit(t.Context()))
		fetchNothing(t, q, 300*time.Millisecond)
		gone(t, pool)
	})
}

func TestASecondRemovalFindsNothing(t *testing.T) {
	t.Parallel()
	pool, l, id := replayed(t)
	tx := begin(t, pool)
	_, err := (&DeadLetters{DB: tx}).Remove(t.Context(), id)
	require.NoError(t, err)
	second := make(chan error, 1)
	go func() {
		_, err := l.Remove(t.Context(), id)
		second <- err
	}()
	waitsForALock(t, pool, "delete from core.tb_observer_retry")
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorIs(t, <-second, deadletter.ErrNotFound)
}
