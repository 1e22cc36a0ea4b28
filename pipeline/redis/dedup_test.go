package redis

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/middleware/deduptest"
)

func openDedup(tb testing.TB, url string) *Dedup {
	tb.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: secret.String(url), PoolSize: 10, ConnectTimeoutSecs: 5, CommandTimeoutSecs: 5})
	require.NoError(tb, err)
	d := NewDedup(client, 5*time.Second)
	tb.Cleanup(func() {
		d.Close()
		require.NoError(tb, client.Close())
	})
	return d
}

func TestDedupStore(t *testing.T) {
	d := openDedup(t, testenv.Redis(t))
	deduptest.Run(t, d, openDedup(t, testenv.Redis(t)), func(t *testing.T) {
		t.Helper()
		require.NoError(t, d.client.FlushAll(t.Context()).Err())
	})
}

func TestTheRecordIsWhereTheContractSays(t *testing.T) {
	t.Parallel()
	d := openDedup(t, testenv.Redis(t))
	key := middleware.DedupKey{Event: "e-contract", Observer: "order-shipped", Action: "notify", Generation: 2}
	look := func() (string, time.Duration) {
		value, err := d.client.Get(t.Context(), "event:e-contract:order-shipped:notify").Result()
		require.NoError(t, err)
		return value, d.client.PTTL(t.Context(), "event:e-contract:order-shipped:notify").Val()
	}
	_, err := d.Claim(t.Context(), key, "me", time.Minute)
	require.NoError(t, err)
	value, left := look()
	require.Equal(t, "held:2:me", value)
	require.InDelta(t, time.Minute, left, float64(10*time.Second))
	_, err = d.Confirm(t.Context(), key, "me", time.Hour)
	require.NoError(t, err)
	value, left = look()
	require.Equal(t, "done:2:me", value)
	require.InDelta(t, time.Hour, left, float64(10*time.Second))
}

func TestAServerThatForgotTheScriptsIsToldThemAgain(t *testing.T) {
	t.Parallel()
	d := openDedup(t, testenv.Redis(t))
	key := middleware.DedupKey{Event: "e-scripts"}
	for range 2 {
		require.NoError(t, d.client.ScriptFlush(t.Context()).Err())
		result, err := d.Claim(t.Context(), key, "me", time.Minute)
		require.NoError(t, err)
		require.Equal(t, middleware.Claimed, result)
	}
}

func TestAServerThatIsAwayIsAnErrorThatSaysWhat(t *testing.T) {
	t.Parallel()
	d := openDedup(t, "redis://127.0.0.1:1/0")
	_, err := d.Claim(t.Context(), middleware.DedupKey{Event: "e"}, "me", time.Minute)
	require.ErrorContains(t, err, "claim delivery in Redis: ")
	require.ErrorContains(t, err, "refused")
	require.ErrorContains(t, d.Probe(t.Context()), "refused")
}

func TestTheProbeGoesTheWayOfADelivery(t *testing.T) {
	t.Parallel()
	d := openDedup(t, testenv.Redis(t))
	require.NoError(t, d.client.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-set").Err())
	limited := openDedup(t, strings.Replace(testenv.Redis(t), "://", "://reader:pw@", 1))
	require.NoError(t, d.Probe(t.Context()))
	require.NoError(t, redisconn.Ping(t.Context(), limited.client))
	require.ErrorContains(t, limited.Probe(t.Context()), "no permissions to run the 'set' command")
}

// trips counts the pipelines that a client sends and the commands in them.
type trips struct{ pipelines, commands atomic.Int64 }

func (*trips) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if name := cmds[0].Name(); name == "set" || name == "evalsha" || name == "eval" { // not the greeting of a connection
			c.pipelines.Add(1)
			c.commands.Add(int64(len(cmds)))
		}
		return next(ctx, cmds)
	}
}

const concurrent = 64

// deliver claims and confirms n deliveries, 64 at a time.
func deliver(tb testing.TB, d *Dedup, event string, n int) {
	tb.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range concurrent {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				key := middleware.DedupKey{Event: event + strconv.FormatInt(i, 10), Observer: "order-shipped", Action: "notify"}
				if _, err := d.Claim(tb.Context(), key, "me", time.Minute); err != nil {
					tb.Error(err)
				}
				if _, err := d.Confirm(tb.Context(), key, "me", time.Minute); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestConcurrentDeliveriesShareRoundTrips(t *testing.T) {
	t.Parallel()
	d := openDedup(t, testenv.Redis(t))
	var seen trips
	d.client.AddHook(&seen)
	n := 5000
	if testing.Short() {
		n = 1000
	}
	deliver(t, d, "e-trips-", n)
	require.GreaterOrEqual(t, seen.commands.Load(), int64(2*n))
	require.Greater(t, seen.commands.Load(), 4*seen.pipelines.Load(), "64 deliveries wait at the same time")
}

func BenchmarkDedup64(b *testing.B) {
	d := openDedup(b, testenv.Redis(b))
	var seen trips
	d.client.AddHook(&seen)
	b.ResetTimer()
	deliver(b, d, "e-bench-"+strconv.Itoa(b.N)+"-", b.N)
	b.ReportMetric(float64(seen.commands.Load())/float64(seen.pipelines.Load()), "commands/pipeline")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkDedup64Unbatched is the same with a round trip for each step.
func BenchmarkDedup64Unbatched(b *testing.B) {
	d := openDedup(b, testenv.Redis(b))
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range concurrent {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				keys := []string{"event:unbatched-" + strconv.Itoa(b.N) + "-" + strconv.FormatInt(i, 10)}
				for _, script := range []*redis.Script{claim, confirm} {
					if err := script.Run(b.Context(), d.client, keys, "0", "me", 60000).Err(); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
