package postgres

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func deadLetters(pool *pgxpool.Pool) *DeadLetters {
	return &DeadLetters{DB: pool, Listener: "observer", Fence: generation(1)}
}

func onlyDeadLetter(t *testing.T, l *DeadLetters) deadletter.Letter {
	t.Helper()
	items, total, err := l.List(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	return items[0]
}

func TestPutKeepsTheWholeDeliveryOnceAndUnparksIt(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l, q := deadLetters(pool), newQueue(t, pool, 1)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	items := fetchSome(t, q, 1)

	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC().Truncate(time.Microsecond), Error: "gone", Class: "http_410"})
	require.NoError(t, l.Put(t.Context(), d))
	require.NoError(t, l.Put(t.Context(), d), "twice is once")
	require.Zero(t, parkedRows(t, pool))
	require.NoError(t, q.Ack(t.Context(), items))

	got, err := l.Get(t.Context(), onlyDeadLetter(t, l).ID)
	require.NoError(t, err)
	require.JSONEq(t, string(d.Event.JSON()), string(got.Event))
	require.Equal(t, d.Attempts, got.History)
	require.Equal(t, "gone http_410 2", fmt.Sprint(got.Error, " ", got.ErrorClass, " ", got.Attempts))
	require.WithinDuration(t, d.Attempts[0].At, got.FirstFailedAt, 0)
	require.WithinDuration(t, d.Attempts[1].At, got.LastFailedAt, 0)

	_, err = l.Get(t.Context(), got.ID+1)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func TestPutKeepsWhatJSONBCannot(t *testing.T) {
	t.Parallel()
	l := deadLetters(leading(t))
	d := delivery("7", "", "")
	d.Event.Data = []byte(`{"a":"\u0000"}`)
	d.Attempts = nil
	require.NoError(t, l.Put(t.Context(), d))
	item := onlyDeadLetter(t, l)
	require.Equal(t, d.Event.ID, item.EventID)
	require.Contains(t, item.Error, "the event itself cannot be kept")
	_, err := l.Retry(t.Context(), item.ID)
	require.ErrorContains(t, err, "holds no event that could be delivered again")
}

func TestParkRefusesForGoodWhatJSONBCannotHold(t *testing.T) {
	t.Parallel()
	q := newQueue(t, leading(t), 1)
	d := delivery("7", "o", "a")
	d.Event.Data = []byte(`{"a":"\u0000"}`)
	require.True(t, event.IsPermanent(q.Park(t.Context(), d, time.Now())))
}

func TestWhatHoldsNoDataIsNotDeliveredAgain(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l := deadLetters(pool)
	d := delivery("7", "", "")
	d.Event.Data = nil
	d.Attempts = []event.Attempt{{At: time.Now(), Error: "the change was captured without its data: unsupported Unicode", Class: "unreadable"}}
	require.NoError(t, l.Put(t.Context(), d))
	item := onlyDeadLetter(t, l)
	_, err := l.Retry(t.Context(), item.ID)
	require.ErrorContains(t, err, "holds no data that could be delivered: \"the change was captured without its data: unsupported Unicode\"")
	whole, getErr := l.Get(t.Context(), item.ID)
	require.NoError(t, getErr)
	require.ErrorContains(t, err, whole.Replayable().Error())
	require.Zero(t, parkedRows(t, pool))
}

func TestAReplayCountsItsOwnAttemptsAndKeepsThoseBefore(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l, q := deadLetters(pool), newQueue(t, pool, 1)
	d := delivery("7", "shipped", "notify")
	fail := func(text string) {
		d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC().Truncate(time.Microsecond), Error: text, Class: "c"})
	}
	fail("second")
	require.NoError(t, l.Put(t.Context(), d))
	id := onlyDeadLetter(t, l).ID
	for g := 1; g <= 2; g++ {
		_, err := l.Retry(t.Context(), id)
		require.NoError(t, err)
		for try := range 2 {
			items := fetchSome(t, q, 1)
			d = event.FromContext(items[0].Msg.Context())
			require.Equal(t, []int{g, try}, []int{d.Generation, d.Tries()})
			fail(fmt.Sprint("replay ", g, " try ", try))
			if try == 0 {
				require.NoError(t, q.Park(t.Context(), d, time.Now().Add(10*time.Millisecond)))
				item := onlyDeadLetter(t, l)
				require.Equal(t, d.Attempts[len(d.Attempts)-1].Error, item.LastError, "shown while the replay is parked")
				require.False(t, item.NextAttempt.IsZero())
				require.NotEqual(t, item.Error, item.LastError)
			} else {
				require.NoError(t, l.Put(t.Context(), d))
			}
			require.NoError(t, q.Ack(t.Context(), items))
		}
	}
	got, err := l.Get(t.Context(), id)
	require.NoError(t, err)
	texts, generations := []string{}, []int{}
	for _, a := range got.History {
		texts, generations = append(texts, a.Error), append(generations, a.Generation)
	}
	require.Equal(t, []string{"503", "second", "replay 1 try 0", "replay 1 try 1", "replay 2 try 0", "replay 2 try 1"}, texts)
	require.Equal(t, []int{0, 0, 1, 1, 2, 2}, generations)
	require.True(t, got.NextAttempt.IsZero())
	require.Equal(t, got.Error, got.LastError)
}

func TestWaitingTellsHowManyAreParkedAndForHowLong(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	n, oldest, err := q.Waiting(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, oldest)
	for _, id := range []string{"1", "2"} {
		require.NoError(t, q.Park(t.Context(), delivery(id, "o", "a"), time.Now().Add(time.Hour)))
	}
	execSQL(t, pool, `update core.tb_observer_retry set created_at = created_at - interval '1 hour' where event ->> 'entity_id' = '1'`)
	n, oldest, err = q.Waiting(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	require.InDelta(t, time.Hour.Seconds(), oldest.Seconds(), 60)
}

func TestListSelectsPagesAndCounts(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l := deadLetters(pool)
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
		"a page":            {deadletter.Filter{Limit: 2, Offset: 1}, 5, "[3 2]"},
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
		})
	}
	n, err := (&DeadLetters{DB: pool, Listener: "another"}).Count(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Zero(t, n, "another listener's")
	n, err = (&DeadLetters{DB: pool}).Count(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 5, n, "every listener's")
}

func TestConcurrentRetriesOfOneDeadLetterRunItOnce(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l, q := deadLetters(pool), newQueue(t, pool, 1)
	d := delivery("7", "shipped", "notify")
	require.NoError(t, l.Put(t.Context(), d))
	id := onlyDeadLetter(t, l).ID

	var parked atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if ok, err := (&DeadLetters{DB: pool}).Retry(t.Context(), id); err == nil && ok {
				parked.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), parked.Load())
	require.True(t, onlyDeadLetter(t, l).Retrying)

	got := fetchAndAck(t, q)
	require.Equal(t, d.ID(), got.ID())
	require.Equal(t, 1, got.Generation)
	require.Equal(t, d.Attempts, got.Attempts)
	n, err := l.Count(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Zero(t, n, "it succeeded")
	_, err = l.Retry(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func TestAReplayThatFailsAgainStaysADeadLetter(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	l, q := deadLetters(pool), newQueue(t, pool, 1)
	require.NoError(t, l.Put(t.Context(), delivery("7", "shipped", "notify")))
	id := onlyDeadLetter(t, l).ID
	_, err := l.Retry(t.Context(), id)
	require.NoError(t, err)

	items := fetchSome(t, q, 1)
	d := event.FromContext(items[0].Msg.Context())
	require.NoError(t, q.Park(t.Context(), d, time.Now()), "the first attempt of the replay failed")
	require.NoError(t, q.Ack(t.Context(), items))
	require.True(t, onlyDeadLetter(t, l).Retrying, "parked is not succeeded")

	items = fetchSome(t, q, 1)
	require.NoError(t, l.Put(t.Context(), event.FromContext(items[0].Msg.Context())))
	require.NoError(t, q.Ack(t.Context(), items))
	item := onlyDeadLetter(t, l)
	require.Equal(t, id, item.ID)
	require.False(t, item.Retrying)
	require.Equal(t, 1, item.Generation)

	ok, err := l.Retry(t.Context(), id)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 2, fetchAndAck(t, q).Generation)
}
