package faults

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// What an original leaves, which its copies must not send.
const (
	leftDead   = 2
	leftParked = 6
	leftUnread = 5
)

// clones are the ways to come by a database that looks like the original.
var clones = map[string]struct {
	make   func(t *testing.T, w *world, c *testenv.Cluster) string
	origin string // "": it is the original
}{
	"pg_dump restored into another cluster": {func(t *testing.T, w *world, _ *testenv.Cluster) string {
		t.Helper()
		return moveDatabase(t, w, testenv.PostgresCluster(t, "fsync=off"))
	}, "another database cluster"},
	"create database template": {func(t *testing.T, w *world, c *testenv.Cluster) string {
		t.Helper()
		inCluster(t, c, "create database copied template "+w.database(t))
		return c.At(t, "/copied")
	}, "another database of this cluster"},
	"pg_upgrade": {func(t *testing.T, w *world, c *testenv.Cluster) string {
		t.Helper()
		c.Stop(t, "fast")
		return c.Upgrade(t).At(t, w.url)
	}, "another database cluster"},
	"alter database rename": {func(t *testing.T, w *world, c *testenv.Cluster) string {
		t.Helper()
		inCluster(t, c, "alter database "+w.database(t)+" rename to renamed")
		return c.At(t, "/renamed")
	}, ""},
	"a promoted standby": {func(t *testing.T, w *world, c *testenv.Cluster) string {
		t.Helper()
		standby := c.Standby(t)
		c.Stop(t, "fast")
		standby.Promote(t)
		return standby.At(t, w.url)
	}, ""},
}

func inCluster(t *testing.T, c *testenv.Cluster, statement string) {
	t.Helper()
	w := &world{url: c.URL()}
	execute(t, w, statement)
}

func (w *world) database(t *testing.T) string {
	t.Helper()
	parsed, err := url.Parse(w.url)
	require.NoError(t, err)
	return strings.TrimPrefix(parsed.Path, "/")
}

// TestACopySendsNothingOfItsOriginal starts on each kind of copy what worked on the original: a process with parked
// deliveries, dead letters and rows to read, a bridge, and the commands that deliver a dead letter.
func TestACopySendsNothingOfItsOriginal(t *testing.T) {
	scenario(t)
	for name, how := range clones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testenv.PostgresCluster(t, "fsync=off")
			c := &cloned{world: newWorld(t, cluster.NewDatabase(t)), bus: natsenv.JetStream(t)}
			c.work(t)
			c.url = how.make(t, c.world, cluster)
			c.writers.url = c.url
			c.base = c.receiver.count()
			if how.origin != "" {
				c.refuses(t, how.origin)
				c.adopts(t)
				return
			}
			c.goesOn(t)
		})
	}
}

type cloned struct {
	*world
	bus       string
	published uint64
}

// parkedLong keeps what failed until a test lets it go.
const parkedLong = "initial_delay_ms = 600000\nmax_delay_ms = 600000"

func (c *cloned) listener(t *testing.T) string {
	t.Helper()
	return c.config(t, settings{retry: parkedLong})
}

func (c *cloned) bridge(t *testing.T) string {
	t.Helper()
	return c.config(t, settings{
		instance: "bridge", start: "beginning",
		transport: fmt.Sprintf("transport = \"nats\"\nrun_bridge = true\nrun_executors = false\n[transport.nats]\nurl = %q", c.bus),
	})
}

// work leaves all that an original has, in the database and in the stream.
func (c *cloned) work(t *testing.T) {
	t.Helper()
	o := startObserver(t, c.listener(t))
	o.leads(t)
	c.receiver.answer(http.StatusGone)
	c.commits(t, leftDead)
	c.has(t, `select count(*) from core.tb_observer_dead_letter`, leftDead)
	c.receiver.answer(http.StatusServiceUnavailable)
	c.commits(t, leftParked)
	c.has(t, `select count(*) from core.tb_observer_retry`, leftParked)
	code, _ := o.terminate(t)
	require.Zero(t, code)
	c.receiver.answer(http.StatusOK)
	execute(t, c.world, `update core.tb_observer_retry set not_before = clock_timestamp()`)

	b := startObserver(t, c.bridge(t))
	b.leads(t)
	c.streams(t, leftDead+leftParked)
	code, _ = b.terminate(t)
	require.Zero(t, code)
	c.commits(t, leftUnread)
}

func (c *cloned) has(t *testing.T, count string, n int64) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		have, err := queryURL[int64](t.Context(), c.url, count)
		if err == nil && have != n {
			err = fmt.Errorf("%s: %d, not %d", count, have, n)
		}
		return err
	})
}

// streams waits until n events were published.
func (c *cloned) streams(t *testing.T, n uint64) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		if have := c.stream(t); have != n {
			return fmt.Errorf("%d events were published, not %d", have, n)
		}
		return nil
	})
	c.published = n
}

func (c *cloned) stream(t *testing.T) uint64 {
	t.Helper()
	conn, err := natsgo.Connect(c.bus)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "fraiseql_events")
	if err != nil {
		return 0 // nobody made it yet
	}
	return stream.CachedInfo().State.LastSeq
}

// refuses sees every way to send end at once, with what to type.
func (c *cloned) refuses(t *testing.T, origin string) {
	t.Helper()
	says := func(text, name string) {
		t.Helper()
		require.Contains(t, text, "checkpoint "+name+" belongs to "+origin)
		require.Contains(t, text, "observer checkpoint set "+name+" --to now|beginning|TIMESTAMP")
	}
	before := c.parked(t)
	config := c.listener(t)
	o := startObserver(t, config)
	code := o.exit(t)
	require.Equal(t, c.base, c.receiver.count(), "deliveries by a copy")
	require.Equal(t, 1, code)
	says(o.text(), "observer")
	b := startObserver(t, c.bridge(t))
	code = b.exit(t)
	require.Equal(t, c.published, c.stream(t), "publishes by a copy")
	require.Equal(t, 1, code)
	says(b.text(), "pg_to_nats")
	id := query[string](t, c.world, `select min(pk_observer_dead_letter)::text from core.tb_observer_dead_letter`)
	for _, args := range [][]string{{"dlq", "retry", id}, {"dlq", "retry", id, "--dry-run"}, {"dlq", "retry-all", "--yes"}, {"dlq", "retry-all", "--dry-run"}} {
		_, stderr, code := call(t, config, args...)
		require.Equal(t, 1, code, "%v: %s", args, stderr)
		says(stderr, "observer")
	}
	out, _, code := call(t, config, "run", "--dry-run")
	require.Equal(t, 1, code)
	says(out, "observer")
	out, stderr, code := call(t, config, "checkpoint", "list")
	require.Zero(t, code, stderr)
	require.Contains(t, out, "of "+origin+": run observer checkpoint set observer --to now|beginning|TIMESTAMP")
	require.Equal(t, before, c.parked(t), "nothing was claimed")
	require.Equal(t, c.base, c.receiver.count(), "deliveries by a copy")
	require.Equal(t, c.published, c.stream(t), "publishes by a copy")
}

func (c *cloned) parked(t *testing.T) string {
	t.Helper()
	return query[string](t, c.world, `select concat_ws(' ', (select count(*) from core.tb_observer_retry where claimed_by is null),
		(select sum(claims) from core.tb_observer_retry), (select count(*) from core.tb_observer_dead_letter where not retrying),
		(select count(*) from core.tb_entity_change_log))`)
}

// adopts makes the copy a database of its own.
func (c *cloned) adopts(t *testing.T) {
	t.Helper()
	config := c.listener(t)
	_, stderr, code := call(t, config, "checkpoint", "set", "observer", "--to", "now")
	require.Zero(t, code, stderr)
	o := startObserver(t, config)
	o.leads(t)
	c.arrives(t, leftParked)
	_, stderr, code = call(t, config, "dlq", "retry-all", "--yes")
	require.Zero(t, code, stderr)
	c.arrives(t, leftParked+leftDead)
	c.commits(t, 1)
	c.arrives(t, leftParked+leftDead+1)
	code, _ = o.terminate(t)
	require.Zero(t, code)

	b := startObserver(t, c.bridge(t))
	require.Equal(t, 1, b.exit(t), "each listener by itself")
	_, stderr, code = call(t, c.bridge(t), "checkpoint", "set", "pg_to_nats", "--to", "now")
	require.Zero(t, code, stderr)
	b = startObserver(t, c.bridge(t))
	b.leads(t)
	c.commits(t, 1)
	c.streams(t, c.published+1)
	code, _ = b.terminate(t)
	require.Zero(t, code)
}

// goesOn sees that everything is delivered and published as if nothing had happened.
func (c *cloned) goesOn(t *testing.T) {
	t.Helper()
	config := c.listener(t)
	o := startObserver(t, config)
	o.leads(t)
	c.arrives(t, leftParked+leftUnread)
	_, stderr, code := call(t, config, "dlq", "retry-all", "--yes")
	require.Zero(t, code, stderr)
	c.arrives(t, leftParked+leftUnread+leftDead)
	code, _ = o.terminate(t)
	require.Zero(t, code)
	b := startObserver(t, c.bridge(t))
	b.leads(t)
	c.streams(t, c.published+leftUnread)
	code, _ = b.terminate(t)
	require.Zero(t, code)
}

// arrives waits for n deliveries.
func (c *cloned) arrives(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		if have := c.receiver.count() - c.base; have != n {
			return fmt.Errorf("%d deliveries arrived, not %d", have, n)
		}
		return nil
	})
}

// TestAFailoverStopsNothing promotes the standby of a server under a running process that knows both.
func TestAFailoverStopsNothing(t *testing.T) {
	scenario(t)
	cluster := testenv.PostgresCluster(t, "fsync=off")
	w := newWorld(t, cluster.NewDatabase(t))
	standby := cluster.Standby(t)
	first, second := hostOf(t, w.url), hostOf(t, standby.URL())
	o := startObserver(t, w.config(t, settings{url: strings.Replace(w.url, first, first+","+second, 1), retry: patient}))
	o.leads(t)
	w.commits(t, 5)
	w.settle(t)
	cluster.Stop(t, "fast")
	standby.Promote(t)
	w.url = standby.At(t, w.url)
	w.writers.url = w.url
	promoted := time.Now()
	w.commits(t, 5)
	w.delivers(t, promoted, "")
	w.settle(t)
	require.True(t, o.running())
	w.kills = append(w.kills, promoted)
	v := w.finish(t, "failover to a promoted standby", o)
	require.LessOrEqual(t, v.duplicates, v.allowed)
	o = startObserver(t, w.config(t, settings{}))
	o.leads(t)
	require.Equal(t, int64(2), query[int64](t, w, `select timeline from tb_observer_checkpoint where transport_name = 'observer'`))
}

func hostOf(t *testing.T, target string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	return parsed.Host
}
