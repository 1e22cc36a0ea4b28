package postgres

import (
	"strconv"
	"sync"
	"sync/atomic"
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

// lettersAndRetries is every byte of both tables, with the versions and locks of their rows.
func lettersAndRetries(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return queryOne[string](t, pool, `select coalesce((select string_agg(d.ctid::text || d.xmin || d.xmax || d::text, E'\n' order by d.ctid) from core.tb_observer_dead_letter d), '')
		|| E'\n--\n' || coalesce((select string_agg(r.ctid::text || r.xmin || r.xmax || r::text, E'\n' order by r.ctid) from core.tb_observer_retry r), '')`)
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

func TestRetryAllSelects(t *testing.T) {
	t.Parallel()
	start := time.Now().UTC().Truncate(time.Second)
	for name, tc := range map[string]struct {
		filter deadletter.Filter
		want   []string // entity ids
	}{
		"all that can be and are not yet":  {deadletter.Filter{}, []string{"0", "1", "2", "3"}},
		"the oldest":                       {deadletter.Filter{Limit: 3}, []string{"0", "1", "2"}},
		"of an observer":                   {deadletter.Filter{Observer: "odd"}, []string{"1", "3"}},
		"the oldest of an observer":        {deadletter.Filter{Observer: "odd", Limit: 1}, []string{"1"}},
		"of a class":                       {deadletter.Filter{Class: "late"}, []string{"2", "3"}},
		"that failed last after a time":    {deadletter.Filter{After: start.Add(time.Minute)}, []string{"2", "3"}},
		"that failed last before a time":   {deadletter.Filter{Before: start.Add(time.Minute)}, []string{"0"}},
		"none":                             {deadletter.Filter{Observer: "nobody"}, nil},
		"none of those that hold no event": {deadletter.Filter{Class: "unreadable"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			l := deadLetters(pool)
			for i, class := range []string{"early", "early", "late", "late", "unreadable", "being"} {
				d := delivery(strconv.Itoa(i), []string{"even", "odd"}[i%2], "a")
				d.Attempts[0].At, d.Attempts[0].Class = start.Add(time.Duration(i)*time.Minute), class
				require.NoError(t, l.Put(t.Context(), d))
			}
			_, err := l.RetryAll(t.Context(), deadletter.Filter{Class: "being"}, nil)
			require.NoError(t, err)

			before := lettersAndRetries(t, pool)
			plan, err := l.PlanRetry(t.Context(), tc.filter)
			require.NoError(t, err)
			require.Equal(t, before, lettersAndRetries(t, pool), "a plan changes nothing")
			planned := 0
			for _, g := range plan {
				planned += g.Count
			}
			require.Equal(t, len(tc.want), planned)

			parked, err := l.RetryAll(t.Context(), tc.filter, nil)
			require.NoError(t, err)
			require.Equal(t, len(tc.want), parked)
			require.Equal(t, tc.want, queryOne[[]string](t, pool, `select array_agg(event ->> 'entity_id' order by not_before, pk_observer_retry)
				from core.tb_observer_retry where event ->> 'entity_id' <> '5'`))
		})
	}
}

func TestConcurrentRetriesOfAllParkEachOnce(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	const letters = 3000
	buryMany(t, pool, letters)
	var parked atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			n, err := (&DeadLetters{DB: pool}).RetryAll(t.Context(), deadletter.Filter{}, nil)
			if err != nil {
				t.Error(err)
			}
			parked.Add(int64(n))
		})
	}
	wg.Wait()
	require.EqualValues(t, letters, parked.Load())
	require.Equal(t, letters, parkedRows(t, pool))
	require.Equal(t, letters, queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter where retrying and generation = 1`))
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

func TestRemoveAllKeepsWhatIsBeingDeliveredAgain(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l := &DeadLetters{DB: pool}
	buryMany(t, pool, 2500)
	_, err := l.RetryAll(t.Context(), deadletter.Filter{Limit: 100}, nil)
	require.NoError(t, err)
	plan, err := l.PlanRemove(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 2400, plan[0].Count)
	removed, err := l.RemoveAll(t.Context(), deadletter.Filter{Limit: 1200}, nil)
	require.NoError(t, err)
	require.Equal(t, 1200, removed)
	removed, err = l.RemoveAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, 1200, removed)
	require.Equal(t, 100, queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter where retrying`))
	require.Equal(t, 100, parkedRows(t, pool))
}

func TestStatsCountByObserverActionAndClass(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l := deadLetters(pool)
	start := time.Now().UTC().Truncate(time.Second)
	for i, key := range [][2]string{{"a", "x"}, {"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "unreadable"}} {
		d := delivery("7", key[0], "n")
		d.Attempts[0].At, d.Attempts[0].Class = start.Add(time.Duration(i)*time.Minute), key[1]
		require.NoError(t, l.Put(t.Context(), d))
	}
	_, err := l.RetryAll(t.Context(), deadletter.Filter{Limit: 1}, nil)
	require.NoError(t, err)
	got, err := l.Stats(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	require.Equal(t, []deadletter.Group{
		{Observer: "a", Action: "n", ErrorClass: "x", Count: 2, Oldest: at(0), Newest: at(1), Retrying: 1},
		{Observer: "a", Action: "n", ErrorClass: "y", Count: 1, Oldest: at(2), Newest: at(2)},
		{Observer: "b", Action: "n", ErrorClass: "unreadable", Count: 1, Oldest: at(4), Newest: at(4), NotReplayable: 1},
		{Observer: "b", Action: "n", ErrorClass: "x", Count: 1, Oldest: at(3), Newest: at(3)},
	}, got)
	got, err = l.Stats(t.Context(), deadletter.Filter{Observer: "a", Class: "y"})
	require.NoError(t, err)
	require.Len(t, got, 1)

	execSQL(t, pool, `update core.tb_observer_dead_letter set first_failed_at = now() - interval '1 hour' where pk_observer_dead_letter = 3`)
	n, oldest, err := l.Waiting(t.Context())
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.InDelta(t, time.Hour.Seconds(), oldest.Seconds(), 60)
}
