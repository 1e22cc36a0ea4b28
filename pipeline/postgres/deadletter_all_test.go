package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// buryMany makes n dead letters of one action. The younger the failure, the lower the id.
func buryMany(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	execSQL(t, pool, `insert into core.tb_observer_dead_letter (listener, event_id, observer, action, entity, event, error, error_class, first_failed_at, last_failed_at)
		select 'observer', gen_random_uuid(), 'shipped', 'notify', 'Order',
		       jsonb_build_object('id', gen_random_uuid(), 'event_type', 'INSERT', 'entity_type', 'Order', 'entity_id', i::text, 'data', '{}'::jsonb, 'timestamp', now()),
		       '503', 'http_503', now() - i * interval '1 second', now() - i * interval '1 second'
		  from generate_series(1, $1::bigint) i`, n)
}

func TestRetryAllParksTensOfThousandsOldestFirst(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	const letters = 10_000
	buryMany(t, pool, letters)
	l := &DeadLetters{DB: pool}
	var told []int
	begun := time.Now()
	parked, err := l.RetryAll(t.Context(), deadletter.Filter{}, func(n int) { told = append(told, n) })
	require.NoError(t, err)
	require.Less(t, time.Since(begun), 10*time.Second, "a row at a time takes longer")
	require.Equal(t, letters, parked)
	require.Len(t, told, letters/letterChunks)
	require.Equal(t, letters, told[len(told)-1])
	require.True(t, queryOne[bool](t, pool, `select array_agg(event_id order by not_before, pk_observer_retry) =
		(select array_agg(event_id order by first_failed_at) from core.tb_observer_dead_letter) from core.tb_observer_retry`), "in the order of the first failures")
	require.Equal(t, letters, queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter where retrying and generation = 1`))

	parked, err = l.RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Zero(t, parked, "all are being delivered again")
}

// TestAReplayOfAllKeepsOffADeadLetterThatIsBeingWritten: the one who writes it may have its parked entry locked.
func TestAReplayOfAllKeepsOffADeadLetterThatIsBeingWritten(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	buryMany(t, pool, 2)
	tx := begin(t, pool)
	_, err := tx.Exec(t.Context(), `update core.tb_observer_dead_letter set error = 'again' where pk_observer_dead_letter = 1`)
	require.NoError(t, err)
	parked, err := (&DeadLetters{DB: pool}).RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, 1, parked)
	require.NoError(t, tx.Commit(t.Context()))
}
