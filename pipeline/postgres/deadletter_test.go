package postgres

import (
	"fmt"
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
