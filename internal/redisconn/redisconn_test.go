package redisconn_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

// childVariable makes the test binary a child that asks a server that is away; its value is the URL.
const childVariable = "REDISCONN_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childVariable); url != "" {
		ask(url)
	}
	// go-redis looks once a second whether a pool without a server is closed.
	os.Exit(testenv.MainWithLeakCheck(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")))
}

func ask(url string) {
	client, err := redisconn.Open(config(url))
	if err == nil && client.Ping(context.Background()).Err() != nil && client.Close() == nil {
		os.Exit(0)
	}
	os.Exit(1)
}

func config(url string) redisconn.Config {
	return redisconn.Config{URL: secret.String(url), PoolSize: 4, ConnectTimeoutSecs: 1, CommandTimeoutSecs: 1}
}

func open(t *testing.T, cfg redisconn.Config) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// away is an address where nothing listens.
func away(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	require.NoError(t, listener.Close())
	return "redis://app:s3cret@" + listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func TestOpenAnswers(t *testing.T) {
	t.Parallel()
	client := open(t, config(testenv.Redis(t)))
	require.NoError(t, client.Ping(t.Context()).Err())
	name, err := client.ClientGetName(t.Context()).Result()
	require.NoError(t, err)
	require.Equal(t, "observer", name)
}

func TestOpenTakesEachKindOfURL(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		url, network, address string
		tls                   bool
		db                    int
	}{
		"TCP with a database": {url: "redis://app:s3cret@host:6380/3", network: "tcp", address: "host:6380", db: 3},
		"TCP without a port":  {url: "redis://host", network: "tcp", address: "host:6379"},
		"TLS":                 {url: "rediss://host:6380", network: "tcp", address: "host:6380", tls: true},
		"a socket":            {url: "unix://app:s3cret@/run/redis.sock?db=2", network: "unix", address: "/run/redis.sock", db: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, config(test.url).Check())
			client, ok := open(t, config(test.url)).(*redis.Client)
			require.True(t, ok)
			options := client.Options()
			require.Equal(t, test.network, options.Network)
			require.Equal(t, test.address, options.Addr)
			require.Equal(t, test.tls, options.TLSConfig != nil)
			require.Equal(t, test.db, options.DB)
			require.Equal(t, 4, options.PoolSize)
			require.Equal(t, time.Second, options.DialTimeout)
			require.Equal(t, time.Second, options.ReadTimeout)
		})
	}
}

func TestAWrongURLIsNotPrinted(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "host:6379", "http://app:s3cret@host", "redis://app:s3cret@ho st", "redis://app:s3cret@host:x", "redis://app:s3cret@host/s3cret"} {
		_, err := redisconn.Open(config(url))
		require.ErrorIs(t, err, redisconn.ErrURL, url)
		require.ErrorIs(t, config(url).Check(), redisconn.ErrURL)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestAServerThatIsAwayIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	client := open(t, config(away(t)))
	for range 10 { // more than the pool has connections
		begin := time.Now()
		err := client.Ping(t.Context()).Err()
		require.ErrorContains(t, err, "connection refused")
		require.NotContains(t, err.Error(), "s3cret")
		require.Less(t, time.Since(begin), time.Second)
	}
}

func TestCtxBoundsWhatASilentServerHolds(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	t.Cleanup(func() { _ = listener.Close() })
	client := open(t, config("redis://"+listener.Addr().String()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	require.Error(t, client.Ping(ctx).Err())
	require.Less(t, time.Since(begin), 900*time.Millisecond)
}

// A child, since go-redis takes hold of stderr before any test begins.
func TestNothingIsPrinted(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+away(t))
	printed, err := child.CombinedOutput()
	require.NoError(t, err, string(printed))
	require.Empty(t, string(printed))
}
