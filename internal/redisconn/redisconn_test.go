package redisconn_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// away is an address where nothing listens, on a port that no server of a test can get.
const away = "redis://app:s3cret@127.0.0.1:1"

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func TestOpenAnswers(t *testing.T) {
	t.Parallel()
	client := open(t, patient(testenv.Redis(t)))
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

func TestTheQueryOfAURLSaysWhatItIsOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ url, server string }{
		"a server":                 {"redis://host/0?protocol=2", "host:6379"},
		"a Cluster":                {"rediss://app:s3cret@a:1?addr=b:2&addr=c:3", "the Cluster at a:1, b:2, c:3"},
		"a Cluster of one address": {"redis://a?addr=a:6379", "the Cluster at a:6379, a:6379"},
		"Sentinels":                {"redis://app:s3cret@a:1/3?master_name=shop&addr=b:2", "the master shop that Sentinel at a:1, b:2 names"},
		"a Sentinel at its port":   {"redis://a?master_name=shop&username=app&password=s3cret", "the master shop that Sentinel at a:26379 names"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, config(test.url).Check())
			require.Equal(t, test.server, config(test.url).Server())
			client := open(t, config(test.url))
			_, cluster := client.(*redis.ClusterClient)
			require.Equal(t, strings.Contains(test.server, "Cluster"), cluster)
		})
	}
}

func TestEveryServerOfAClusterProvesItsOwnName(t *testing.T) {
	t.Parallel()
	client, ok := open(t, config("rediss://a:1?addr=b:2")).(*redis.ClusterClient)
	require.True(t, ok)
	require.Empty(t, client.Options().TLSConfig.ServerName)
	require.Equal(t, 4, client.Options().PoolSize)
	require.Negative(t, client.Options().PipelinePoolSize)
}

func TestAWrongURLSaysWhatToWriteAndNotItself(t *testing.T) {
	t.Parallel()
	const server, list, user = "write redis://user:password@host:6379/0", "write redis://node1:6379?addr=node2:6379", "redis://:password@host"
	tests := map[string]struct{ url, says string }{
		"nothing":                      {"", server},
		"no scheme":                    {"host:6379", server},
		"another scheme":               {"http://app:s3cret@host", server},
		"no host":                      {"redis://:s3cret@/0", server},
		"a blank":                      {"redis://app:s3cret@ho st", server},
		"no port":                      {"redis://app:s3cret@host:x", server},
		"a port too large":             {"redis://app:s3cret@host:99999", server},
		"a number sign in a password":  {"redis://app:x#s3cret@host", server},
		"a question mark in one":       {"redis://app?s3cret@host", "known here: db, skip_verify, protocol"},
		"a slash in one":               {"redis://app:x/s3cret@host", server},
		"an escape that is none":       {"redis://host?addr=%zz", server},
		"a database that is a word":    {"redis://app:s3cret@host/s3cret", "write redis://host:6379/0"},
		"a negative database":          {"redis://host/-1", "write redis://host:6379/0"},
		"two databases":                {"redis://host/1/2", "write redis://host:6379/0"},
		"a user alone":                 {"redis://s3cret@host", user},
		"an empty password":            {"redis://s3cret:@host", user},
		"commas":                       {"redis://app:s3cret@a:1,b:2", list},
		"commas without ports":         {"redis://a,b/0", list},
		"the scheme of Sentinels":      {"redis+sentinel://app:s3cret@a:1/shop", "?master_name=NAME"},
		"the scheme of Lettuce":        {"redis-sentinel://s3cret@a:1,b:2#shop", "?master_name=NAME"},
		"the scheme of a Cluster":      {"redis+cluster://a:1", list},
		"an address without a port":    {"redis://a:1?addr=b", "an addr that is not host:port"},
		"an address that is no port":   {"redis://a:1?addr=b:s3cret", "an addr that is not host:port"},
		"a master without a name":      {"redis://a:1?master_name=", "an empty master_name"},
		"two masters":                  {"redis://a:1?master_name=x&master_name=y", "has master_name twice"},
		"a database of a Cluster":      {"redis://a:1/3?addr=b:2", "a Cluster has one only"},
		"a socket of a Cluster":        {"unix:///run/redis.sock?addr=b:2", "is a socket"},
		"pool_size":                    {"redis://host?pool_size=5", "write pool_size in [redis]"},
		"dial_timeout of a Cluster":    {"redis://a:1?addr=b:2&dial_timeout=5", "write connect_timeout_secs in [redis]"},
		"read_timeout of Sentinels":    {"redis://a:1?master_name=x&read_timeout=5", "write command_timeout_secs in [redis]"},
		"replicas of a Cluster":        {"redis://a:1?addr=b:2&read_only=true", "known here: addr, protocol"},
		"a password behind a server":   {"redis://host?password=s3cret", "write redis://user:password@host"},
		"skip_verify without TLS":      {"redis://host?skip_verify=true", "without TLS"},
		"skip_verify of a Cluster":     {"rediss://a:1?addr=b:2&skip_verify=true", "write tls_ca in [redis]"},
		"a protocol that is no number": {"redis://host?protocol=s3cret", server},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := config(test.url).Check()
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "s3cret")
			_, opened := redisconn.Open(config(test.url))
			require.Equal(t, err, opened)
		})
	}
}

func TestCertificatesNeedTLSAndFilesThatHoldThem(t *testing.T) {
	t.Parallel()
	plain := config("redis://host")
	plain.TLSCA = "ca.pem"
	require.ErrorContains(t, plain.Check(), "write rediss://")
	_, cert, key := certificates(t)
	other := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, os.WriteFile(other, []byte("no certificate"), 0o600))
	tests := map[string]struct {
		ca, cert, key string
		names, says   string
	}{
		"no CA":              {ca: "/nowhere/ca.pem", names: "tls_ca", says: "no such file"},
		"a CA that is none":  {ca: other, names: "tls_ca", says: "holds no certificate"},
		"no key":             {cert: cert, names: "tls_key", says: "belong together"},
		"no certificate":     {key: key, names: "tls_cert", says: "belong together"},
		"a key that is away": {cert: cert, key: "/nowhere/key.pem", names: "tls_key", says: "no such file"},
		"no pair":            {cert: cert, key: other, names: "tls_cert", says: "is no pair"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config("rediss://host")
			cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = test.ca, test.cert, test.key
			_, err := redisconn.Open(cfg)
			require.Equal(t, cfg.CheckFiles(), err)
			file, ok := errors.AsType[*redisconn.FileError](err)
			require.True(t, ok)
			require.Equal(t, test.names, file.Key)
			require.ErrorContains(t, file, test.says)
		})
	}
	whole := config("rediss://host")
	whole.TLSCA, whole.TLSCert, whole.TLSKey = cert, cert, key
	require.NoError(t, whole.CheckFiles())
}

func TestAServerThatIsAwayIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	client := open(t, endless(away))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 10 { // more than the pool has connections
		err := client.Ping(ctx).Err()
		require.ErrorContains(t, err, "connection refused")
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestCtxBoundsWhatASilentServerHolds(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	t.Cleanup(func() { _ = listener.Close() })
	for _, scheme := range []string{"redis", "rediss"} {
		client := open(t, patient(scheme+"://"+listener.Addr().String()))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begin := time.Now()
		require.Error(t, client.Ping(ctx).Err())
		require.Less(t, time.Since(begin), 10*time.Second)
		cancel()
	}
}

// A child, since go-redis takes hold of stderr before any test begins.
func TestNothingIsPrinted(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+away)
	printed, err := child.CombinedOutput()
	require.NoError(t, err, string(printed))
	require.Empty(t, string(printed))
}
