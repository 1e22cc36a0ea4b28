package postgres

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestTwoSleepersMissNoWake(t *testing.T) {
	t.Parallel()
	// Nothing but a notification, or the grant of the lock, reads a row within the test.
	h := newTestRig(t, func(c *Config) { c.PollIntervalSecs = 3600 })
	var receivers []*receiver
	for _, name := range []string{"one", "two"} {
		h.cfg.ListenerName = name
		r := h.reader(h.acquire())
		r.none()
		receivers = append(receivers, receive(r))
	}
	w := newWriters(h)
	ctx, cancel := context.WithTimeout(t.Context(), soak(t))
	defer cancel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { w.trickle(ctx, h) })
	}
	all.Wait()
	for i, c := range receivers {
		w.settle(t, c)
		c.mu.Lock()
		slices.Sort(c.late)
		n := len(c.late)
		t.Logf("reader %d: %d changes, from insert to arrival p50 %s p99 %s max %s", i, n, c.late[n/2], c.late[n*99/100], c.late[n-1])
		require.Less(t, c.late[n-1], 3*time.Second)
		c.mu.Unlock()
		c.stop()
	}
}

// trickle commits single changes with pauses in which a reader falls asleep.
func (w *writers) trickle(ctx context.Context, h *rig) {
	for ctx.Err() == nil {
		_ = sleep(ctx, time.Duration(rand.ExpFloat64()*float64(16*time.Millisecond)))
		tx, err := h.pool.Begin(context.WithoutCancel(ctx))
		if err != nil {
			continue
		}
		name, err := w.revise(context.WithoutCancel(ctx), tx, rand.IntN(1000))
		if err == nil && rand.IntN(10) == 0 {
			_ = sleep(ctx, 10*time.Millisecond)
		}
		if err == nil && tx.Commit(context.WithoutCancel(ctx)) == nil {
			w.note(w.committed, []string{name})
		}
	}
}

func TestPreparedTransactionsWorkWhileTheReaderSleeps(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "max_prepared_transactions = 10", "fsync = off")
	h := newRig(t, cluster.NewDatabase(t))
	r := h.reader(h.acquire())
	r.none()
	tx, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), insertRange, 1, 2)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `prepare transaction 'one'`)
	require.NoError(t, err)
	_ = tx.Rollback(t.Context())
	r.none()
	h.exec(`commit prepared 'one'`)
	r.ack(r.take(2)...)
}

func TestReaderBehindATransactionPoolingProxy(t *testing.T) {
	t.Parallel()
	target := testenv.Postgres(t)
	direct := newRig(t, target)
	h := newRig(t, testenv.PgBouncer(t, target), func(c *Config) { c.Wake = "poll"; c.BatchSize = 20 })
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	c := receive(r)
	w := newWriters(direct)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	w.write(ctx, direct, 4)
	w.settle(t, c)
	require.Greater(t, c.count(), 100)
	c.stop()
	r.close()
	h.storedPending(0)
	require.NoError(t, lease.Release(t.Context()))
	direct.emit(1, 100)
	r = h.reader(h.acquire())
	items := r.take(100)
	require.Equal(t, numbers(1, 100), keys(items))
	r.ack(items...)
	r.close()
}
