package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/postgres"
)

// concurrency is max_concurrency of every process.
const concurrency = 16

// world is what one scenario has: a database with captured tables, writers, a receiver and configuration files.
type world struct {
	url      string
	source   string // "": its receiver hears of no other database
	dir      string
	receiver *receiver
	journal  *journal
	writers  *writers
	base     int             // requests that arrived before the scenario began to count
	kills    []time.Time     // when a process lost its memory, or the receiver its connections
	excused  map[string]bool // events that may come again for another reason, by id
	recovery time.Duration
	refuses  bool // the receiver refuses some for good, which become dead letters

	elsewhere func() []request // what arrived where no webhook goes; nil: the receiver has it
}

// newWorld prepares the database at url; "": a new one.
func newWorld(t *testing.T, url string) *world {
	t.Helper()
	if url == "" {
		url = captured.Postgres(t)
	} else {
		require.NoError(t, prepare(url))
	}
	w := &world{url: url, dir: t.TempDir(), receiver: newReceiver(t), journal: newJournal(), recovery: -1, excused: map[string]bool{}}
	w.writers = &writers{url: url, journal: w.journal, pause: 40 * time.Millisecond, late: pick(800*time.Millisecond, 2*time.Second), abort: rollbacks}
	return w
}

// captured is a database with our objects and a captured table.
var captured = testenv.NewTemplate(prepare)

func prepare(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	pool, err := postgres.Connect(ctx, postgres.Config{URL: secret.String(url)}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	return capture(ctx, pool)
}

func capture(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, tables); err != nil {
		return err
	}
	_, err := postgres.AddCapture(ctx, pool, postgres.CaptureSpec{Table: "public.orders", Entity: "Order"})
	return err
}

// settings are what the configuration files of the scenarios differ in.
type settings struct {
	transport string // lines of [transport], and tables below it; default: postgres
	url       string // default: the world's
	instance  string // shows in the receiver's requests
	start     string // start_from
	shutdown  string // shutdown_timeout
	timeout   int    // timeout_ms
	retry     string // lines of [observers.retry]
	onRetry   string // default: overtake
	redis     string // address of the Redis that deduplicates; "": nothing does
	team      string // middleware; "": none
	level     string // of the log; default: debug
}

const configuration = `
[transport]
%s
[transport.postgres]
url = %q
start_from = %q
%s
[performance]
enable_dedup = %t
max_concurrency = %d
shutdown_timeout = %q
[pipeline]
middleware = [%s]
[admin]
listen = "127.0.0.1:0"
[log]
level = %q
[[observers]]
name = "all"
entity = "*"
on_retry = %q
[[observers.actions]]
type = "webhook"
name = "notify"
url = "http://%s/hook?instance=%s"
timeout_ms = %d
[observers.retry]
%s
`

// config writes a configuration file and returns its name.
func (w *world) config(t *testing.T, s settings) string {
	t.Helper()
	if s.url == "" {
		s.url = w.url
	}
	if s.start == "" {
		s.start = "now"
	}
	if s.shutdown == "" {
		s.shutdown = "10s"
	}
	if s.timeout == 0 {
		s.timeout = 5000
	}
	if s.instance == "" {
		s.instance = "one"
	}
	if s.transport == "" {
		s.transport = `transport = "postgres"`
	}
	redis := ""
	if s.redis != "" {
		redis = fmt.Sprintf("[redis]\nurl = %q\ncommand_timeout_secs = 1", s.redis)
	}
	if s.onRetry == "" {
		s.onRetry = "overtake"
	}
	middleware := ""
	if s.team != "" {
		middleware = strconv.Quote(s.team)
	}
	name := filepath.Join(w.dir, s.instance+".toml")
	text := fmt.Sprintf(configuration, s.transport, s.url, s.start, redis, s.redis != "", concurrency, s.shutdown, middleware, cmp.Or(s.level, "debug"), s.onRetry, w.receiver.addr, s.instance, s.timeout, s.retry)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// kill ends a process and remembers when.
func (w *world) kill(o *observer) time.Time {
	moment := o.kill()
	w.kills = append(w.kills, moment)
	return moment
}

// killParking is kill for a process that parks deliveries: parking settles them, so what it parked within settleWindow may
// come again from the log too. The attempt's time is noted before it is parked, hence twice the window.
func (w *world) killParking(t *testing.T, o *observer) {
	t.Helper()
	w.excuseParked(t, w.kill(o))
}

func (w *world) excuseParked(t *testing.T, killed time.Time) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `select event_id from core.tb_observer_retry where (attempts -> -1 ->> 'at')::timestamptz > $1 or created_at > $1`, killed.Add(-2*settleWindow()))
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))
	for _, id := range ids {
		w.excused[id] = true
	}
}

// down breaks the receiver's connections and remembers when.
func (w *world) down(t *testing.T) {
	t.Helper()
	w.receiver.down(t)
	w.kills = append(w.kills, time.Now())
}

// begin forgets what was committed and delivered so far.
func (w *world) begin() {
	w.journal = newJournal()
	w.writers.journal = w.journal
	w.base = w.receiver.count()
}

// arrived are the requests about the world's database since begin.
func (w *world) arrived() []request {
	if w.elsewhere != nil {
		return w.elsewhere()
	}
	all := w.receiver.all()[w.base:]
	if w.source == "" {
		return all
	}
	return slices.DeleteFunc(all, func(r request) bool { return r.source != w.source })
}

// delivers waits until a request of an instance ("" for any) arrives after a moment, and notes how long that took.
func (w *world) delivers(t *testing.T, since time.Time, instance string) time.Duration {
	t.Helper()
	var took time.Duration
	testenv.Eventually(t, within, func() error {
		first := w.receiver.firstAfter(since, instance)
		if first.IsZero() {
			return fmt.Errorf("nothing arrived since the fault, %s ago", time.Since(since).Round(time.Millisecond))
		}
		took = first.Sub(since)
		return nil
	})
	w.recovery = max(w.recovery, took)
	return took
}

// measure notes how long nothing arrived after each kill while there was something to deliver.
func (w *world) measure() {
	for _, kill := range w.kills {
		if first := w.receiver.firstAfter(kill.Add(50*time.Millisecond), ""); !first.IsZero() {
			w.recovery = max(w.recovery, first.Sub(kill))
		}
	}
}

// settle stops the writers and waits until all that they committed has arrived; the check tells what is missing.
func (w *world) settle(t *testing.T) map[change]string {
	t.Helper()
	w.writers.stop()
	require.NoError(t, w.journal.resolve(t.Context(), w.url))
	require.NotEmpty(t, w.journal.all())
	var committed map[change]string
	missing := func() int {
		committed = w.journal.all()
		if w.refuses {
			w.withoutDeadLetters(t, committed)
		}
		v := check(committed, w.arrived(), nil, nil)
		return v.lost
	}
	// A backlog may take its time, as long as it shrinks.
	for least, progress := missing(), time.Now(); least > 0 && time.Since(progress) < within; {
		wait(t.Context(), 50*time.Millisecond)
		if n := missing(); n < least {
			least, progress = n, time.Now()
		}
	}
	return committed
}

// withoutDeadLetters takes off what the receiver refused for good: it is in its place.
func (w *world) withoutDeadLetters(t *testing.T, committed map[change]string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `select (event ->> 'entity_type') || '/' || (event ->> 'entity_id'), (event -> 'data' ->> 'rev')::bigint, error_class from core.tb_observer_dead_letter`)
	require.NoError(t, err)
	var c change
	var class string
	_, err = pgx.ForEachRow(rows, []any{&c.entity, &c.rev, &class}, func() error {
		require.Equal(t, refused, class, "%v", c)
		delete(committed, c)
		return nil
	})
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))
}

// finish settles, ends the processes cleanly and reports the scenario.
func (w *world) finish(t *testing.T, fault string, processes ...*observer) verdict {
	t.Helper()
	committed := w.settle(t)
	for _, o := range processes {
		code, _ := o.terminate(t)
		require.Zero(t, code, "exit code after SIGTERM")
	}
	w.measure()
	v := check(committed, w.arrived(), w.kills, w.excused)
	report(t, fault, v, w.recovery)
	return v
}

// query reads one value from the world's database.
func query[T any](t *testing.T, w *world, sql string, args ...any) T {
	t.Helper()
	value, err := queryURL[T](t.Context(), w.url, sql, args...)
	require.NoError(t, err)
	return value
}

func queryURL[T any](ctx context.Context, url, sql string, args ...any) (value T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return value, err
	}
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, errors.Join(err, conn.Close(ctx))
}

// execute runs a statement in the world's database.
func execute(t *testing.T, w *world, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))
}

// commits changes n rows, one transaction each, and journals them.
func (w *world) commits(t *testing.T, n int) {
	t.Helper()
	one := &writer{writers: w.writers, name: fmt.Sprintf("test-%d", started.Add(1)), random: newRandom(t.Name(), 100)}
	require.NoError(t, one.connect(t.Context()))
	defer one.hangUp(t.Context())
	for i := range n {
		tx, mark, err := one.begin(t.Context())
		require.NoError(t, err)
		made, err := one.change(t.Context(), tx, int64(1+i%entities), mark, false)
		require.NoError(t, err)
		require.NoError(t, one.commit(t.Context(), tx, mark, []change{made}))
	}
}
