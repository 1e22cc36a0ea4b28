package nats

import (
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/deadletter/deadlettertest"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/retrytest"
)

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	deadlettertest.Run(t, func(t *testing.T) (deadletter.Store, middleware.DeadLetters, retrytest.Queue) {
		t.Helper()
		stream := "events_" + natsgo.NewInbox()[len(natsgo.InboxPrefix):]
		q, err := OpenRetryQueue(t.Context(), js, RetryQueueConfig{Stream: stream, Consumer: "worker", AckWait: 30 * time.Second, MaxDeliver: 3})
		require.NoError(t, err)
		t.Cleanup(q.stop)
		l, err := OpenDeadLetters(t.Context(), js, DeadLettersConfig{Stream: stream, Consumer: "worker"})
		require.NoError(t, err)
		return l, l, q
	})
}

func TestAnEventThatIsTooLargeForAMessage(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	q := openQueue(t, js, 30*time.Second)
	large := func() *event.Delivery {
		d := retrytest.Delivery("7", "o", "a")
		d.Event.Data = []byte(`{"a":"` + strings.Repeat("x", 2<<20) + `"}`)
		return d
	}
	require.True(t, event.IsPermanent(q.Park(t.Context(), large(), time.Now())))
	spilled := large()
	fits := retrytest.Delivery("8", "o", "a")
	require.NoError(t, q.Spill(t.Context(), []dispatch.Spilled{{Delivery: spilled}, {Delivery: fits}}))
	require.Equal(t, fits.ID(), retrytest.FetchAndAck(t, q).ID())

	list, total, err := q.dead.List(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, []string{spilled.Event.ID, "unstorable"}, []string{list[0].EventID, list[0].ErrorClass})
	require.Contains(t, list[0].Error, "the event itself cannot be kept")
	_, err = q.dead.Retry(t.Context(), list[0].ID)
	require.ErrorContains(t, err, "holds no event that could be delivered again")
}

func TestIdleTellsThatNobodyDeliversReplays(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	l, err := OpenDeadLetters(t.Context(), js, DeadLettersConfig{Stream: "events", Consumer: "worker"})
	require.NoError(t, err)
	idle := func() []string {
		list, err := l.Idle(t.Context())
		require.NoError(t, err)
		return list
	}
	require.NoError(t, l.Put(t.Context(), retrytest.Delivery("7", "o", "a")))
	require.Empty(t, idle(), "no replay is parked")
	n, err := l.RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"worker"}, idle())
	q := openQueue(t, js, 30*time.Second)
	require.Len(t, retrytest.Fetch(t, q, 1), 1)
	require.Empty(t, idle(), "a worker has it in hand")
}

// TestARetryWhoseCallerDiedIsMadeAgain stops it between its two writes.
func TestARetryWhoseCallerDiedIsMadeAgain(t *testing.T) {
	t.Parallel()
	q := openQueue(t, connect(t, natsenv.JetStream(t)), 30*time.Second)
	l := q.dead
	require.NoError(t, l.Put(t.Context(), retrytest.Delivery("7", "o", "a")))
	for ago, want := range map[time.Duration]bool{0: false, retryGrace: true} {
		list, _, err := l.List(t.Context(), deadletter.Filter{})
		require.NoError(t, err)
		was, err := l.find(t.Context(), list[0].ID)
		require.NoError(t, err)
		next := *was
		next.Retried = time.Now().Add(-ago)
		require.NoError(t, l.replace(t.Context(), was.key(), was, &next))
		parked, err := l.Retry(t.Context(), was.ID)
		require.NoError(t, err)
		require.Equal(t, want, parked, ago)
		if parked {
			require.Equal(t, was.Generation+1, retrytest.FetchAndAck(t, q).Generation)
			require.NoError(t, l.Put(t.Context(), retrytest.Delivery("7", "o", "a")))
		}
	}
}

func TestEachConsumerHasRetriesAndDeadLettersOfItsOwn(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	queues := map[string]*RetryQueue{}
	d := retrytest.Delivery("7", "o", "a")
	for _, consumer := range []string{"one", "two"} {
		q, err := OpenRetryQueue(t.Context(), js, RetryQueueConfig{Stream: "events", Consumer: consumer, AckWait: time.Minute, MaxDeliver: 3})
		require.NoError(t, err)
		t.Cleanup(q.stop)
		queues[consumer] = q
		require.NoError(t, q.dead.Put(t.Context(), d))
	}
	ids := map[string]int64{}
	for consumer, q := range queues {
		list, total, err := q.dead.List(t.Context(), deadletter.Filter{})
		require.NoError(t, err)
		require.Equal(t, 1, total)
		require.Equal(t, consumer, list[0].Listener)
		ids[consumer] = list[0].ID
	}
	_, err := queues["one"].dead.Retry(t.Context(), ids["two"])
	require.ErrorIs(t, err, deadletter.ErrNotFound)
	parked, err := queues["two"].dead.Retry(t.Context(), ids["two"])
	require.NoError(t, err)
	require.True(t, parked)
	retrytest.FetchNothing(t, queues["one"], 100*time.Millisecond)
	require.Equal(t, 1, retrytest.FetchAndAck(t, queues["two"]).Generation)
	n, err := queues["one"].dead.Count(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
