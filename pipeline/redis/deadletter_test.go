package redis_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/redis"
)

// store is the dead letters and the retry queue of a stream of its own.
func store(t *testing.T) (goredis.UniversalClient, string, *redis.DeadLetters, *redis.RetryQueue) {
	t.Helper()
	client, stream := open(t, testenv.Redis(t)), streamName()
	return client, stream, &redis.DeadLetters{Client: client, Stream: stream, Group: "group"}, newQueue(t, client, stream)
}

func onlyDeadLetter(t *testing.T, l *redis.DeadLetters) deadletter.Letter {
	t.Helper()
	items, total, err := l.List(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	return items[0]
}

func count(t *testing.T, l *redis.DeadLetters, f deadletter.Filter) int {
	t.Helper()
	n, err := l.Count(t.Context(), f)
	require.NoError(t, err)
	return n
}

func TestPutKeepsTheWholeDeliveryOnceAndUnparksIt(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	items := fetch(t, q, 1)
	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC(), Error: "gone", Class: "http_410"})
	require.NoError(t, l.Put(t.Context(), d))
	require.NoError(t, l.Put(t.Context(), d), "twice is once")
	require.Zero(t, waiting(t, q))
	require.NoError(t, q.Ack(t.Context(), items))

	got, err := l.Get(t.Context(), onlyDeadLetter(t, l).ID)
	require.NoError(t, err)
	require.Equal(t, string(d.Event.JSON()), string(got.Event))
	require.Equal(t, d.Attempts, got.History)
	require.Equal(t, "gone http_410 2 group", fmt.Sprint(got.Error, " ", got.ErrorClass, " ", got.Attempts, " ", got.Listener))
	require.WithinDuration(t, d.Attempts[0].At, got.FirstFailedAt, time.Microsecond)
	require.WithinDuration(t, d.Attempts[1].At, got.LastFailedAt, time.Microsecond)
	_, err = l.Get(t.Context(), got.ID+1)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func TestWhatHoldsNoDataIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	d := delivery("7", "", "")
	d.Attempts = []event.Attempt{{At: time.Now(), Error: "no JSON", Class: "unreadable"}}
	require.NoError(t, l.Put(t.Context(), d))
	_, err := l.Retry(t.Context(), onlyDeadLetter(t, l).ID)
	require.ErrorContains(t, err, `holds no data that could be delivered: "no JSON"`)
	n, err := l.RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, waiting(t, q))
}

func TestAReplayCountsItsOwnAttemptsAndKeepsThoseBefore(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, l.Put(t.Context(), d))
	id := onlyDeadLetter(t, l).ID
	for g := 1; g <= 2; g++ {
		_, err := l.Retry(t.Context(), id)
		require.NoError(t, err)
		for try := range 2 {
			items := fetch(t, q, 1)
			d = deliveryOf(items[0])
			require.Equal(t, []int{g, try}, []int{d.Generation, d.Tries()})
			d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC(), Error: fmt.Sprint("try ", try), Class: "c"})
			if try == 0 {
				require.NoError(t, q.Park(t.Context(), d, time.Now().Add(10*time.Millisecond)))
				item := onlyDeadLetter(t, l)
				require.Equal(t, "try 0", item.LastError, "shown while the replay is parked")
				require.False(t, item.NextAttempt.IsZero())
				require.True(t, item.Retrying)
			} else {
				require.NoError(t, l.Put(t.Context(), d))
			}
			require.NoError(t, q.Ack(t.Context(), items))
		}
	}
	got, err := l.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "0:503, 1:try 0, 1:try 1, 2:try 0, 2:try 1", texts(got.History))
	require.True(t, got.NextAttempt.IsZero())
	require.False(t, got.Retrying)
	require.Equal(t, 2, got.Generation)
}

func TestListSelectsPagesAndCounts(t *testing.T) {
	t.Parallel()
	_, _, l, _ := store(t)
	start := time.Now().UTC().Truncate(time.Second)
	for i := range 5 {
		d := delivery(strconv.Itoa(i), []string{"even", "odd"}[i%2], "a")
		d.Attempts = []event.Attempt{{At: start.Add(time.Duration(i) * time.Minute), Error: strconv.Itoa(i), Class: "c"}}
		require.NoError(t, l.Put(t.Context(), d))
	}
	for name, tc := range map[string]struct {
		filter deadletter.Filter
		total  int
		errors string
	}{
		"all, latest first": {deadletter.Filter{}, 5, "[4 3 2 1 0]"},
		"one observer":      {deadletter.Filter{Observer: "odd"}, 2, "[3 1]"},
		"after a time":      {deadletter.Filter{After: start.Add(2 * time.Minute)}, 2, "[4 3]"},
		"before a time":     {deadletter.Filter{Before: start.Add(2 * time.Minute)}, 2, "[1 0]"},
		"a page":            {deadletter.Filter{Limit: 2, Offset: 1}, 5, "[3 2]"},
		"beyond the end":    {deadletter.Filter{Offset: 9}, 5, "[]"},
		"none":              {deadletter.Filter{Observer: "nobody"}, 0, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			items, total, err := l.List(t.Context(), tc.filter)
			require.NoError(t, err)
			texts := []string{}
			for _, item := range items {
				texts = append(texts, item.Error)
			}
			require.Equal(t, tc.errors, fmt.Sprint(texts))
			require.Equal(t, tc.total, total)
			require.Equal(t, tc.total, count(t, l, tc.filter))
		})
	}
}

func TestConcurrentRetriesOfOneDeadLetterRunItOnce(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, l.Put(t.Context(), d))
	id := onlyDeadLetter(t, l).ID
	var parked atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if ok, err := l.Retry(t.Context(), id); err == nil && ok {
				parked.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), parked.Load())
	require.True(t, onlyDeadLetter(t, l).Retrying)
	got := fetchAndAck(t, q)
	require.Equal(t, []any{d.ID(), 1, d.Attempts}, []any{got.ID(), got.Generation, got.Attempts})
	require.Zero(t, count(t, l, deadletter.Filter{}), "it succeeded")
	_, err := l.Retry(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func TestAReplayThatFailsAgainStaysADeadLetter(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	require.NoError(t, l.Put(t.Context(), delivery("7", "shipped", "notify")))
	id := onlyDeadLetter(t, l).ID
	_, err := l.Retry(t.Context(), id)
	require.NoError(t, err)
	items := fetch(t, q, 1)
	require.NoError(t, q.Park(t.Context(), deliveryOf(items[0]), time.Now()), "the first attempt of the replay failed")
	require.NoError(t, q.Ack(t.Context(), items))
	require.True(t, onlyDeadLetter(t, l).Retrying, "parked is not succeeded")
	items = fetch(t, q, 1)
	require.NoError(t, l.Put(t.Context(), deliveryOf(items[0])))
	require.NoError(t, q.Ack(t.Context(), items))
	item := onlyDeadLetter(t, l)
	require.Equal(t, []any{id, false, 1}, []any{item.ID, item.Retrying, item.Generation})
	ok, err := l.Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 2, fetchAndAck(t, q).Generation)
}

func TestADeliveryThatSucceedsWithoutAReplayLeavesADeadLetterAlone(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, l.Put(t.Context(), d))
	require.NoError(t, q.Park(t.Context(), d, time.Now()), "the stream is delivered again")
	ok, err := l.Retry(t.Context(), onlyDeadLetter(t, l).ID)
	require.NoError(t, err)
	require.False(t, ok, "it is parked already")
	fetchAndAck(t, q)
	require.False(t, onlyDeadLetter(t, l).Retrying)
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(*testing.T, goredis.UniversalClient, string, *redis.DeadLetters, *redis.RetryQueue)
		inWork  bool
	}{
		"one at rest": {prepare: func(*testing.T, goredis.UniversalClient, string, *redis.DeadLetters, *redis.RetryQueue) {}},
		"one whose replay is parked": {prepare: func(t *testing.T, _ goredis.UniversalClient, _ string, l *redis.DeadLetters, _ *redis.RetryQueue) {
			t.Helper()
			_, err := l.Retry(t.Context(), onlyDeadLetter(t, l).ID)
			require.NoError(t, err)
		}},
		"not one that is in work": {inWork: true, prepare: func(t *testing.T, _ goredis.UniversalClient, _ string, l *redis.DeadLetters, q *redis.RetryQueue) {
			t.Helper()
			_, err := l.Retry(t.Context(), onlyDeadLetter(t, l).ID)
			require.NoError(t, err)
			fetch(t, q, 1)
		}},
		"one whose worker died": {prepare: func(t *testing.T, client goredis.UniversalClient, stream string, l *redis.DeadLetters, _ *redis.RetryQueue) {
			t.Helper()
			id := onlyDeadLetter(t, l).ID
			_, err := l.Retry(t.Context(), id)
			require.NoError(t, err)
			fetch(t, dying(t, client, stream), 1)
			testenv.Eventually(t, 20*time.Second, func() error {
				n, err := client.Exists(t.Context(), stream+":retries:alive").Result()
				if err == nil && n > 0 {
					err = deadletter.ErrInWork
				}
				return err
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, stream, l, q := store(t)
			d := delivery("7", "shipped", "notify")
			require.NoError(t, l.Put(t.Context(), d))
			tc.prepare(t, client, stream, l, q)
			id := onlyDeadLetter(t, l).ID
			removed, err := l.Remove(t.Context(), id)
			if tc.inWork {
				require.ErrorIs(t, err, deadletter.ErrInWork)
				require.Equal(t, id, onlyDeadLetter(t, l).ID)
				return
			}
			require.NoError(t, err)
			require.JSONEq(t, string(d.Event.JSON()), string(removed.Event))
			require.Equal(t, d.Attempts, removed.History)
			require.Zero(t, count(t, l, deadletter.Filter{}))
			require.Zero(t, waiting(t, q))
			_, err = l.Remove(t.Context(), id)
			require.ErrorIs(t, err, deadletter.ErrNotFound)
		})
	}
}

func buryMany(t *testing.T, l *redis.DeadLetters, n int) {
	t.Helper()
	start := time.Now().Add(-time.Hour)
	for i := range n { // the younger the failure, the lower the number
		d := delivery(strconv.Itoa(n-1-i), "shipped", "notify")
		d.Attempts[0].At = start.Add(time.Duration(n-i) * time.Second)
		require.NoError(t, l.Put(t.Context(), d))
	}
}

func TestRetryAllParksOldestFirstAndEachOnce(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	const n = 600
	buryMany(t, l, n)
	plan, err := l.PlanRetry(t.Context(), deadletter.Filter{Limit: 500})
	require.NoError(t, err)
	require.Equal(t, 500, plan[0].Count)
	var told []int
	parked, err := l.RetryAll(t.Context(), deadletter.Filter{Limit: 100}, func(n int) { told = append(told, n) })
	require.NoError(t, err)
	require.Equal(t, 100, parked)
	require.Equal(t, []int{100}, told)
	var more atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			n, err := l.RetryAll(t.Context(), deadletter.Filter{}, nil)
			if err != nil {
				t.Error(err)
			}
			more.Add(int64(n))
		})
	}
	wg.Wait()
	require.EqualValues(t, n-100, more.Load())
	require.Equal(t, n, waiting(t, q))
	for i, item := range fetch(t, q, 100) {
		require.Equal(t, strconv.Itoa(i), deliveryOf(item).Event.EntityID, "in the order of the first failures")
	}
}

func TestRemoveAllKeepsWhatIsBeingDeliveredAgain(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	buryMany(t, l, 300)
	_, err := l.RetryAll(t.Context(), deadletter.Filter{Limit: 10}, nil)
	require.NoError(t, err)
	plan, err := l.PlanRemove(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 290, plan[0].Count)
	removed, err := l.RemoveAll(t.Context(), deadletter.Filter{Limit: 20}, nil)
	require.NoError(t, err)
	require.Equal(t, 20, removed)
	removed, err = l.RemoveAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, 270, removed)
	require.Equal(t, 10, count(t, l, deadletter.Filter{}))
	require.Equal(t, 10, waiting(t, q))
}

func TestStatsCountByObserverActionAndClass(t *testing.T) {
	t.Parallel()
	_, _, l, _ := store(t)
	start := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
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
	n, oldest, err := l.Waiting(t.Context())
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.InDelta(t, time.Hour.Seconds(), oldest.Seconds(), 60)
}

func TestIdleNamesTheGroupWhoseReplaysNobodyDelivers(t *testing.T) {
	t.Parallel()
	_, _, l, q := store(t)
	idle := func() []string {
		list, err := l.Idle(t.Context())
		require.NoError(t, err)
		return list
	}
	require.NoError(t, l.Put(t.Context(), delivery("7", "shipped", "notify")))
	require.Empty(t, idle(), "nothing is parked")
	_, err := l.RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"group"}, idle())
	fetch(t, q, 1)
	require.Empty(t, idle())
}
