package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/redis"
	"github.com/fraiseql/observer/pipeline/window"
)

// ackWait is short enough to wait for a dead consumer, and long enough for a machine that is busy.
const ackWait = 2 * time.Second

func streamName() string { return "stream_" + uuid.NewString() }

func delivery(entityID, observer, action string) *event.Delivery {
	return &event.Delivery{
		Event:    &event.Event{ID: uuid.NewString(), Type: event.Insert, Entity: "Order", EntityID: entityID, Data: []byte(`{"id":12345678901234567890}`), Timestamp: time.Now().UTC()},
		Observer: observer, Action: action,
		Attempts: []event.Attempt{{At: time.Now().UTC(), Error: "503", Class: "http_503"}},
	}
}

func newQueue(t *testing.T, client goredis.UniversalClient, stream string) *redis.RetryQueue {
	t.Helper()
	q, err := redis.NewRetryQueue(redis.RetryQueueConfig{Client: client, Stream: stream, AckWait: ackWait, MaxDeliver: 3})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close(context.WithoutCancel(t.Context()))) })
	return q
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func fetch(t *testing.T, d window.Driver, n int) (items []window.Item) {
	t.Helper()
	for ctx := soon(t); len(items) < n; {
		some, err := d.Fetch(ctx, n-len(items))
		require.NoError(t, err)
		items = append(items, some...)
	}
	return items
}

// nothing asserts that for a moment there is nothing to fetch.
func nothing(t *testing.T, d window.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	items, err := d.Fetch(ctx, 10)
	require.Empty(t, items)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func deliveryOf(item window.Item) *event.Delivery { return event.FromContext(item.Msg.Context()) }

func entityIDs(items []window.Item) string {
	list := []string{}
	for _, item := range items {
		list = append(list, deliveryOf(item).Event.EntityID)
	}
	return strings.Join(list, " ")
}

func fetchAndAck(t *testing.T, d window.Driver) *event.Delivery {
	t.Helper()
	items := fetch(t, d, 1)
	require.NoError(t, d.Ack(t.Context(), items))
	return deliveryOf(items[0])
}

func waiting(t *testing.T, q *redis.RetryQueue) int {
	t.Helper()
	n, _, err := q.Waiting(t.Context())
	require.NoError(t, err)
	return int(n)
}

// durable is a server that keeps what it was told over a kill.
func durable(t *testing.T) *testenv.RedisServer {
	t.Helper()
	return testenv.NewRedis(t, "appendonly yes", "appendfsync always")
}

// keysOf lists what is left of a stream.
func keysOf(t *testing.T, client goredis.UniversalClient, stream string) []string {
	t.Helper()
	keys, err := client.Keys(t.Context(), stream+"*").Result()
	require.NoError(t, err)
	return keys
}
