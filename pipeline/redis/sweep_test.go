package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestAConsumerThatWasNotHeardOfForLongIsRemoved(t *testing.T) {
	t.Parallel()
	client, stream := openDedup(t, testenv.Redis(t)).client, "stream_"+uuid.NewString()
	require.NoError(t, createGroup(t.Context(), client, stream, "group"))
	for _, name := range []string{"idle", "holder"} {
		require.NoError(t, client.XGroupCreateConsumer(t.Context(), stream, "group", name).Err())
	}
	sweep := func(unheard time.Duration) (names []string) {
		require.NoError(t, sweepConsumers.Run(t.Context(), client, []string{stream}, "group", unheard.Milliseconds()).Err())
		for _, c := range client.XInfoConsumers(t.Context(), stream, "group").Val() {
			names = append(names, c.Name)
		}
		return names
	}
	require.Len(t, sweep(time.Hour), 2, "they are young")
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: []string{"a", "b"}}).Err())
	require.NoError(t, client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "group", Consumer: "holder", Streams: []string{stream, ">"}}).Err())
	testenv.Eventually(t, 5*time.Second, func() error {
		if names := sweep(time.Millisecond); len(names) != 1 {
			return errors.New("two are there")
		}
		return nil
	})
	require.Equal(t, []string{"holder"}, sweep(0))
}
