package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
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

func TestRemoveReturnsWhatItRemoved(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l := deadLetters(pool)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, l.Put(t.Context(), d))
	removed, err := l.Remove(t.Context(), onlyDeadLetter(t, l).ID)
	require.NoError(t, err)
	require.JSONEq(t, string(d.Event.JSON()), string(removed.Event))
	require.Equal(t, d.Attempts, removed.History)
	gone(t, pool)
	_, err = l.Remove(t.Context(), removed.ID)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func TestRemoveStopsAReplayThatIsNotInWork(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]string{
		"parked": `select`,
		"claimed by a process that died": `with claimed as (update core.tb_observer_retry set claimed_by = 1)
			update core.tb_observer_lease set expires_at = clock_timestamp()`,
		"claimed under an earlier lease": `with claimed as (update core.tb_observer_retry set claimed_by = 1)
			update core.tb_observer_lease set generation = 2`,
		"parked nowhere: somebody deleted its row": `delete from core.tb_observer_retry`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, l, id := replayed(t)
			execSQL(t, pool, prepare)
			_, err := l.Remove(t.Context(), id)
			require.NoError(t, err)
			gone(t, pool)
		})
	}
}

func TestRemoveRefusesWhileAReplayIsInWork(t *testing.T) {
	t.Parallel()
	pool, l, id := replayed(t)
	q := newQueue(t, pool, 1)
	items := fetchSome(t, q, 1)
	before := lettersAndRetries(t, pool)
	_, err := l.Remove(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrInWork)
	require.Equal(t, before, lettersAndRetries(t, pool))

	d := event.FromContext(items[0].Msg.Context())
	require.NoError(t, q.Park(t.Context(), d, time.Now().Add(time.Hour)), "it failed again")
	require.NoError(t, q.Ack(t.Context(), items))
	_, err = l.Remove(t.Context(), id)
	require.NoError(t, err, "it only waits now")
	gone(t, pool)
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
