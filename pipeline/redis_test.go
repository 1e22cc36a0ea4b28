package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/admin"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/testenv"
)

// within is ample: what is waited for takes some seconds.
const within = 60 * time.Second

const (
	redisObserver = `
[transport]
transport = "postgres"
[transport.postgres]
url = "%s"
start_from = "beginning"
[redis]
url = "%s"
connect_timeout_secs = 1
[admin]
listen = ""
[[observers]]
name = "order"
entity = "Order"
[observers.retry]
max_attempts = 1000
initial_delay_ms = 200
backoff_strategy = "fixed"
`
	toTheWeb  = "[[observers.actions]]\ntype = \"webhook\"\nurl = \"%s\"\nbody_template = '{{ data.id }}'\n"
	toStream  = "[[observers.actions]]\ntype = \"publish\"\nserver = \"redis\"\ntopic = \"orders\"\n"
	fromCache = "[[observers.actions]]\ntype = \"cache\"\nkey_pattern = \"order:{{ data.id }}\"\n"
)

// pages is a log that tests read while it is written.
type pages struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *pages) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// withRedis builds the pipeline of a configuration whose actions may use its servers.
func withRedis(t *testing.T, text string, log io.Writer) *Pipeline {
	t.Helper()
	registry, err := handlers.NewRegistry()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "observer.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, config.Options{Actions: registry.Configs()})
	require.NoError(t, err)
	web, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(t, err)
	t.Cleanup(web.Close)
	servers := handlers.NewServers(handlers.ServersConfig{Redis: &cfg.Redis})
	t.Cleanup(servers.Close)
	logger := slog.New(slog.NewTextHandler(log, nil))
	plan, problems := Compile(cfg, registry, handlers.Env{Logger: logger, HTTP: web, Servers: servers})
	require.Empty(t, problems)
	p, err := New(Options{Plan: plan, Log: logger})
	require.NoError(t, err)
	return p
}

// start runs the pipeline until the test ends.
func start(t *testing.T, p *Pipeline) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func (p *Pipeline) is(want string) error {
	ready, status, reasons := p.health.State()
	if !ready || status != want {
		return fmt.Errorf("ready %t, %s, not %s: %v", ready, status, want, reasons)
	}
	return nil
}

func TestRedisMayComeAndGo(t *testing.T) {
	t.Parallel()
	database, server := testenv.Postgres(t), testenv.NewRedis(t)
	server.Stop(t)
	arrived := make(chan string, 10)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
	}))
	t.Cleanup(web.Close)
	var log pages
	p := withRedis(t, fmt.Sprintf(redisObserver+toTheWeb, database, server.URL(), web.URL)+toStream+fromCache, &log)
	start(t, p)
	testenv.Eventually(t, within, func() error { return p.is(admin.Degraded) })
	_, _, reasons := p.health.State()
	require.Len(t, reasons, 1)
	require.Equal(t, redisCheck, reasons[0].Check)
	require.Contains(t, reasons[0].Error, "connection refused")
	require.Equal(t, redisFix, reasons[0].Fix)
	require.Contains(t, log.String(), `level=WARN msg="redis fails, working without it" error=`)

	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := redisconn.Open(p.plan.cfg.Redis)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for id := range 2 { // once since the start, once in between
		_, err = pool.Exec(t.Context(), `select core.emit_event('Order', jsonb_build_object('id', $1::int))`, id)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(id), <-arrived, "the work goes on")
		testenv.Eventually(t, within, func() error { return parked(t, pool, 2) })
		require.NoError(t, p.is(admin.Degraded))

		server.Start(t)
		testenv.Eventually(t, within, func() error { return p.is("leader") })
		testenv.Eventually(t, within, func() error { return parked(t, pool, 0) })
		require.Equal(t, int64(1), client.XLen(t.Context(), "orders").Val())
		require.Contains(t, log.String(), `level=INFO msg="redis works"`)

		server.Stop(t)
		testenv.Eventually(t, within, func() error { return p.is(admin.Degraded) })
	}
	var dead int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from core.tb_observer_dead_letter`).Scan(&dead))
	require.Zero(t, dead)
	require.Empty(t, arrived, "no webhook is sent twice")
}

// parked reports whether want deliveries wait for another attempt.
func parked(t *testing.T, pool *pgxpool.Pool, want int) error {
	t.Helper()
	var got int
	err := pool.QueryRow(t.Context(), `select count(*) from core.tb_observer_retry`).Scan(&got)
	if err == nil && got != want {
		err = fmt.Errorf("%d deliveries are parked, not %d", got, want)
	}
	return err
}

// TestAllThatUsesRedisSharesOneClient deduplicates, caches and publishes over a pool of one connection.
func TestAllThatUsesRedisSharesOneClient(t *testing.T) {
	t.Parallel()
	const orders = 30
	database, server := testenv.Postgres(t), testenv.NewRedis(t)
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(web.Close)
	text := fmt.Sprintf(redisObserver+toTheWeb, database, server.URL(), web.URL) + "cacheable = true\n" + toStream + fromCache +
		"[performance]\nenable_dedup = true\nenable_caching = true\n"
	p := withRedis(t, strings.Replace(text, "connect_timeout_secs = 1", "connect_timeout_secs = 1\npool_size = 1", 1), io.Discard)
	start(t, p)
	testenv.Eventually(t, within, func() error { return p.is("leader") })
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), `select core.emit_event('Order', jsonb_build_object('id', n)) from generate_series(1, $1::int) n`, orders)
	require.NoError(t, err)
	options, err := goredis.ParseURL(server.URL())
	require.NoError(t, err)
	client := goredis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	testenv.Eventually(t, within, func() error {
		done := len(client.Keys(t.Context(), "event:*:order:*").Val())
		results := len(client.Keys(t.Context(), "action_result:*").Val())
		if published := client.XLen(t.Context(), "orders").Val(); done != 3*orders || results != orders || published != orders {
			return fmt.Errorf("%d deliveries done, %d results, %d published", done, results, published)
		}
		return nil
	})
	require.NoError(t, p.is("leader"))
	require.Equal(t, 1, strings.Count(client.ClientList(t.Context()).Val(), " name=observer "), "connections of the process")

	server.Stop(t)
	testenv.Eventually(t, within, func() error { return p.is(admin.Degraded) })
	_, err = pool.Exec(t.Context(), `select core.emit_event('Order', '{"id": 1}')`)
	require.NoError(t, err)
	testenv.Eventually(t, within, func() error { return parked(t, pool, 2) })
	_, _, reasons := p.health.State()
	require.Len(t, reasons, 1)
	require.Equal(t, redisCheck, reasons[0].Check)
}

func TestOnlyARedisThatSomethingUsesIsWatched(t *testing.T) {
	t.Parallel()
	disabled := strings.Replace(redisObserver, `entity = "Order"`, "entity = \"Order\"\nenabled = false", 1)
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"a webhook":               {redisObserver + strings.Replace(toTheWeb, "%s", "http://localhost", 1), false},
		"a stream":                {redisObserver + toStream, true},
		"a cache":                 {redisObserver + fromCache, true},
		"an observer that is off": {disabled + toStream, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := withRedis(t, fmt.Sprintf(test.text, "postgres://localhost/x", "redis://localhost"), io.Discard)
			require.Equal(t, test.want, p.plan.usesRedis())
		})
	}
}
