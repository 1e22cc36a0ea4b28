package postgres

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/pipeline/window"
)

// rig is one database with our objects, and what a test does with it.
type rig struct {
	tb   testing.TB
	cfg  Config
	pool *pgxpool.Pool
	log  *slog.Logger
}

func newRig(tb testing.TB, url string, change ...func(*Config)) *rig {
	tb.Helper()
	cfg := Config{URL: secret.String(url), ListenerName: "observer", StartFrom: "now", Wake: "notify", BatchSize: 500, PollIntervalSecs: 1, NotifyChannel: "fraiseql_events"}
	for _, f := range change {
		f(&cfg)
	}
	h := &rig{tb: tb, cfg: cfg, log: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	pool, err := Connect(tb.Context(), cfg, h.log)
	require.NoError(tb, err)
	h.pool = pool
	tb.Cleanup(pool.Close)
	require.NoError(tb, Migrate(tb.Context(), pool, h.log))
	if cfg.Wake == "notify" {
		require.NoError(tb, EnsureWake(tb.Context(), pool, cfg.NotifyChannel, cfg.WakeForced))
	}
	return h
}

func newTestRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	return newRig(t, migrated.Postgres(t), change...)
}

func (h *rig) exec(sql string, args ...any) {
	h.tb.Helper()
	_, err := h.pool.Exec(h.tb.Context(), sql, args...)
	require.NoError(h.tb, err)
}

// emit inserts events n = from … to.
func (h *rig) emit(from, to int) {
	h.tb.Helper()
	h.exec(insertRange, from, to)
}

const insertRange = `insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data)
	select 'Order', 'INSERT', i::text, jsonb_build_object('n', i) from generate_series($1::int, $2::int) i`

// acquire takes the lease; it is released when the test ends unless that was done.
func (h *rig) acquire() *Lease {
	h.tb.Helper()
	ctx, cancel := context.WithTimeout(h.tb.Context(), 20*time.Second)
	defer cancel()
	lease, err := Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: h.cfg.ListenerName, StartFrom: h.cfg.StartFrom, Log: h.log})
	require.NoError(h.tb, err)
	h.tb.Cleanup(func() { _ = lease.Release(context.Background()) })
	return lease
}

// readerRig is a reader that was started.
type readerRig struct {
	*Reader
	tb testing.TB
}

func (h *rig) reader(lease *Lease, change ...func(*ReaderConfig)) *readerRig {
	h.tb.Helper()
	cfg := ReaderConfig{Config: h.cfg, Pool: h.pool, Lease: lease, Log: h.log}
	for _, f := range change {
		f(&cfg)
	}
	r := &readerRig{NewReader(cfg), h.tb}
	h.tb.Cleanup(func() { r.crash() })
	return r
}

// crash ends a reader as kill -9 does: nothing is stored any more.
func (r *readerRig) crash() {
	begun := true
	r.start.Do(func() { begun = false })
	if begun {
		r.stop()
		<-r.done
	}
}

func (r *readerRig) close() {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(r.tb, r.Close(ctx))
}

// take fetches exactly n items.
func (r *readerRig) take(n int) []window.Item {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), 20*time.Second)
	defer cancel()
	var items []window.Item
	for len(items) < n {
		more, err := r.Fetch(ctx, n-len(items))
		require.NoError(r.tb, err, "after %d of %d", len(items), n)
		items = append(items, more...)
	}
	return items
}

func (r *readerRig) ack(items ...window.Item) {
	r.tb.Helper()
	require.NoError(r.tb, r.Ack(r.tb.Context(), items))
}

// none requires that nothing comes for a while.
func (r *readerRig) none() {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), 300*time.Millisecond)
	defer cancel()
	items, err := r.Fetch(ctx, 1)
	require.ErrorIs(r.tb, err, context.DeadlineExceeded, "got %v", keys(items))
}

// keys returns the entity ids of items.
func keys(items []window.Item) []string {
	list := make([]string, len(items))
	for i, item := range items {
		if e := event.OfContext(item.Msg.Context()); e != nil {
			list[i] = e.EntityID
		}
	}
	return list
}

// numbers returns from … to as text.
func numbers(from, to int) []string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

func TestFirstStartReadsFromNow(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	h.emit(1, 3)
	lease := h.acquire()
	require.True(t, lease.First())
	require.False(t, lease.Unclean())
	r := h.reader(lease)
	r.none()
	h.emit(4, 6)
	items := r.take(3)
	require.Equal(t, numbers(4, 6), keys(items))
	e := event.OfContext(items[0].Msg.Context())
	require.Equal(t, items[0].Msg.UUID, e.ID)
	require.JSONEq(t, string(e.JSON()), string(items[0].Msg.Payload))
	require.WithinDuration(t, time.Now(), e.Timestamp, time.Minute)
	r.ack(items...)
	r.close()
}
