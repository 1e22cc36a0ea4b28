package redis_test

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/redis"
)

// dying is a worker that is never heard of again: its heartbeat comes too late for this test.
func dying(t *testing.T, client goredis.UniversalClient, stream string) *redis.RetryQueue {
	t.Helper()
	q, err := redis.NewRetryQueue(redis.RetryQueueConfig{Client: client, Stream: stream, AckWait: ackWait, MaxDeliver: 3})
	require.NoError(t, err)
	redis.Kill(q)
	return q
}
