package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline"
	"github.com/fraiseql/observer/pipeline/postgres"
)

// cachedWebhook is a configuration in which one lane sends the orders, one after the other. %s is more of it, and the address.
const cachedWebhook = `
[transport]
transport = "in_memory"
[performance]
enable_caching = true
%s
[[observers]]
name = "told"
entity = "Order"
[observers.retry]
max_attempts = 3
initial_delay_ms = 1
[[observers.actions]]
type = "webhook"
url = "%s/token-s3cret"
headers = { Authorization = "Bearer s3cret" }
body_template = '{"status": {{ data.status }}}'
`

// orders are events of one order, with these statuses.
func orders(statuses ...string) io.Reader {
	var b strings.Builder
	for _, s := range statuses {
		fmt.Fprintf(&b, `{"entity_type":"Order","entity_id":"1","data":{"status":%q}}`+"\n", s)
	}
	return strings.NewReader(b.String())
}

// counter counts the requests that a handler answers.
func counter(t *testing.T, answer http.HandlerFunc) (string, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, &n
}

func accepts(http.ResponseWriter, *http.Request) {}

func TestIdenticalRequestsOfACacheableActionAreSentOnce(t *testing.T) {
	t.Parallel()
	redisTable := fmt.Sprintf("[redis]\nurl = %q\n", testenv.Redis(t))
	for name, tc := range map[string]struct {
		table, key string
		requests   int
	}{
		"in memory":                       {"", "cacheable = true\n", 2},
		"in Redis":                        {redisTable, "cacheable = true\n", 2},
		"not where no action asks for it": {redisTable, "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := counter(t, accepts)
			p := build(t, fmt.Sprintf(cachedWebhook, tc.table, url)+tc.key)
			summary, err := p.RunInput(t.Context(), "input", orders("paid", "paid", "paid", "sent"))
			require.NoError(t, err)
			require.EqualValues(t, tc.requests, requests.Load())
			require.EqualValues(t, tc.requests, summary.Delivered)
			require.EqualValues(t, 4, summary.Matched)
			require.EqualValues(t, 4-tc.requests, summary.Cached)
			require.Zero(t, summary.DeadLetters)
		})
	}
}

func TestARestartFindsTheResultsInRedis(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	url, requests := counter(t, accepts)
	text := fmt.Sprintf(cachedWebhook, fmt.Sprintf("[redis]\nurl = %q\n", server), url) + "cacheable = true\n"
	for range 2 {
		_, err := build(t, text).RunInput(t.Context(), "input", orders("paid"))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, requests.Load())
	requireNoSecrets(t, server)
}

// requireNoSecrets looks at all that caches left in the shared Redis: only hashes, of which none can be a text.
func requireNoSecrets(t *testing.T, server string) {
	t.Helper()
	options, err := redis.ParseURL(server)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(t.Context(), "action_result:*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	for _, key := range keys {
		require.Regexp(t, "^action_result:[0-9a-f]{64}$", key)
		require.Contains(t, []string{"1", ""}, client.Get(t.Context(), key).Val(), "it may have expired")
	}
}

func TestARequestThatFailedIsSentAgain(t *testing.T) {
	t.Parallel()
	var failed atomic.Bool
	url, requests := counter(t, func(w http.ResponseWriter, _ *http.Request) {
		if failed.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	summary, err := build(t, fmt.Sprintf(cachedWebhook, "", url)+"cacheable = true\n").RunInput(t.Context(), "input", orders("paid", "paid", "paid"))
	require.NoError(t, err)
	require.EqualValues(t, 2, requests.Load(), "the one that failed, and the next of the same")
	require.EqualValues(t, 1, summary.Delivered)
	require.Zero(t, summary.DeadLetters)
}

func TestRequestsGoOnWithoutRedis(t *testing.T) {
	t.Parallel()
	relay := newRelay(t, testenv.Redis(t))
	url, requests := counter(t, func(_ http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); bytes.Contains(body, []byte("last")) {
			relay.cut()
		}
	})
	p := build(t, fmt.Sprintf(cachedWebhook, fmt.Sprintf("[redis]\nurl = \"redis://%s\"\n", relay.address), url)+"cacheable = true\n")
	summary, err := p.RunInput(t.Context(), "input", orders("paid", "paid", "last", "sent", "sent", "sent"))
	require.NoError(t, err)
	require.EqualValues(t, 5, requests.Load(), "one is skipped before, none after")
	require.EqualValues(t, 5, summary.Delivered)
	require.Zero(t, summary.DeadLetters)
}

// relay stands before a server and can be cut: then nobody answers at its address.
type relay struct {
	address  string
	listener net.Listener
	mu       sync.Mutex // guards conns
	conns    []net.Conn
}

func newRelay(t *testing.T, server string) *relay {
	t.Helper()
	target, err := url.Parse(server)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{address: listener.Addr().String(), listener: listener}
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.Host)
			if err != nil {
				t.Errorf("dial %s: %v", target.Host, err)
				_ = in.Close()
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			copies.Go(func() { _, _ = io.Copy(in, out) })
			copies.Go(func() { _, _ = io.Copy(out, in) })
		}
	})
	t.Cleanup(func() {
		r.cut()
		copies.Wait()
	})
	return r
}

func (r *relay) cut() {
	_ = r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// lines is a log that tests read while it is written.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheHitRateIsInTheMetricsAndInTheLog(t *testing.T) {
	t.Parallel()
	dsn, admin := testenv.Postgres(t), freeAddress(t)
	url, requests := counter(t, accepts)
	text := strings.Replace(fmt.Sprintf(cachedWebhook, "[admin]\nlisten = \""+admin+"\"", url)+"cacheable = true\n",
		`transport = "in_memory"`, "transport = \"postgres\"\npostgres = { url = \""+dsn+"\", start_from = \"beginning\" }", 1)
	insertOrders(t, dsn, "paid", "paid", "paid", "sent")
	var log lines
	p := buildWith(t, text, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	testenv.Eventually(t, 30*time.Second, func() error {
		if !strings.Contains(log.String(), "cache_hit_rate=0.5 ") {
			return errors.New("not in the log: " + log.String())
		}
		return nil
	})
	require.EqualValues(t, 2, requests.Load())
	scraped := get(t, "http://"+admin+"/metrics")
	for _, line := range []string{"cache_hits_total 2", "cache_misses_total 2", "cache_hit_rate 0.5"} {
		require.Contains(t, scraped, "\nfraiseql_observer_"+line+"\n")
	}
	cancel()
	require.NoError(t, <-ended)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

// insertOrders logs changes of one order.
func insertOrders(t *testing.T, dsn string, statuses ...string) {
	t.Helper()
	pool, err := postgres.Connect(t.Context(), postgres.Config{URL: secret.String(dsn)}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)))
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, s := range statuses {
		_, err := conn.Exec(t.Context(), `insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data)
			values ('Order', 'UPDATE', '1', jsonb_build_object('status', $1::text))`, s)
		require.NoError(t, err)
	}
}

func TestAnActionWithoutFingerprintIsNotCacheable(t *testing.T) {
	t.Parallel()
	type keys struct {
		Cacheable bool `toml:"cacheable"`
	}
	define := handlers.Define("plain", func(*keys, handlers.Env) (handlers.Action, error) { return stuck{}, nil })
	_, err := load(t, "[transport]\ntransport = \"in_memory\"\n[[observers]]\nentity = \"*\"\n[[observers.actions]]\ntype = \"plain\"\ncacheable = true\n", slog.New(slog.DiscardHandler), define)
	require.ErrorContains(t, err, ":7:13: observers[0].actions[0].cacheable: no action of type plain can be cached (remove it, or give the action a Fingerprint)")
}

func TestDryRunAsksTheRedisOfTheCache(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		redis, detail, err string
	}{
		"that answers":          {testenv.Redis(t), "answers", ""},
		"that does not":         {"redis://app:s3cret@" + freeAddress(t), "", "ask Redis: "},
		"which nobody gave one": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, table := slog.New(slog.DiscardHandler), ""
			if tc.redis != "" {
				table = fmt.Sprintf("[redis]\nurl = %q\n", tc.redis)
			}
			plan, err := load(t, fmt.Sprintf(cachedWebhook, table, "https://example.com")+"cacheable = true\n", log)
			require.NoError(t, err)
			found := false
			for _, check := range pipeline.DryRun(t.Context(), plan, log) {
				if check.Name != "redis" {
					continue
				}
				found = true
				require.Equal(t, tc.detail, check.Detail)
				if tc.err == "" {
					require.NoError(t, check.Err)
					continue
				}
				require.ErrorContains(t, check.Err, tc.err)
				require.NotContains(t, check.Err.Error(), "s3cret")
			}
			require.Equal(t, tc.redis != "", found)
		})
	}
}
