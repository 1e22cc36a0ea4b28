package redis_test

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware/resultstest"
	"github.com/fraiseql/observer/pipeline/redis"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithLeakCheck(m)) }

func open(tb testing.TB, url string) goredis.UniversalClient {
	tb.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: secret.String(url), PoolSize: 10, ConnectTimeoutSecs: 5, CommandTimeoutSecs: 2})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client
}

func TestResultsConform(t *testing.T) {
	t.Parallel()
	resultstest.Run(t, redis.NewResults(open(t, testenv.Redis(t))))
}

func TestAResultIsOneShortKeyThatExpires(t *testing.T) {
	t.Parallel()
	client, key := open(t, testenv.Redis(t)), "action_result:"+uuid.NewString()
	require.NoError(t, redis.NewResults(client).Put(t.Context(), key, time.Minute))
	require.Equal(t, "1", client.Get(t.Context(), key).Val())
	left := client.PTTL(t.Context(), key).Val()
	require.Greater(t, left, 30*time.Second)
	require.LessOrEqual(t, left, time.Minute)
}

func TestResultsSayWhatFailedAndHideThePassword(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	results := redis.NewResults(open(t, "redis://app:s3cret@"+nobody.Addr().String()))
	_, err = results.Has(t.Context(), "action_result:x")
	require.ErrorContains(t, err, "read cached result: ")
	require.NotContains(t, err.Error(), "s3cret")
	err = results.Put(t.Context(), "action_result:x", time.Minute)
	require.ErrorContains(t, err, "cache result: ")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestResultsEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := redis.NewResults(open(t, testenv.Redis(t))).Has(ctx, "action_result:x")
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkHit times a hit beside a bare GET of the same client, and prints the median of each.
func BenchmarkHit(b *testing.B) {
	client, key := open(b, testenv.Redis(b)), "action_result:"+uuid.NewString()
	results := redis.NewResults(client)
	require.NoError(b, results.Put(b.Context(), key, time.Hour))
	for _, way := range []struct {
		name string
		ask  func(context.Context) (bool, error)
	}{
		{"hit", func(ctx context.Context) (bool, error) { return results.Has(ctx, key) }},
		{"raw GET", func(ctx context.Context) (bool, error) {
			value, err := client.Get(ctx, key).Result()
			return value == "1", err
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				there, err := way.ask(b.Context())
				took = append(took, time.Since(start))
				if !there || err != nil {
					b.Fatal(errors.Join(err, errors.New("no hit")))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
		})
	}
}
