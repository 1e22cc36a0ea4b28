package redis_test

import (
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

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
