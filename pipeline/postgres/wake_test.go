package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestSleepersMissNoWake lets transactions commit at the same moment, and waits until every reader has what they wrote before the
// next ones: nothing but a notification, or the grant of a lock, lets a reader read. On a slow disk most of them leave it to another
// one to notify.
func TestSleepersMissNoWake(t *testing.T) {
	t.Parallel()
	for disk, fsync := range map[string]time.Duration{"instant disk": 0, "slow disk": 3 * time.Millisecond} {
		for _, readers := range []int{1, 3, 8} {
			t.Run(fmt.Sprintf("%s, %d readers", disk, readers), func(t *testing.T) {
				t.Parallel()
				url := testenv.Postgres(t)
				if fsync > 0 {
					url = testenv.SlowPostgresCluster(t, fsync).NewDatabase(t)
				}
				h := newRig(t, url, func(c *Config) { c.PollIntervalSecs = 3600 })
				w := newWriters(h)
				var receivers []*receiver
				for i := range readers {
					h.cfg.ListenerName = fmt.Sprint("reader_", i)
					receivers = append(receivers, receive(h.reader(h.acquire())))
				}
				w.commitTogether(t, h, receivers)
			})
		}
	}
}

func (w *writers) commitTogether(t *testing.T, h *rig, receivers []*receiver) {
	t.Helper()
	var took []time.Duration
	for begun, round := time.Now(), 0; round < 20 || time.Since(begun) < soak(t); round++ {
		// Long enough, at times, for every reader to fall asleep.
		require.NoError(t, sleep(t.Context(), time.Duration(rand.ExpFloat64()*float64(60*time.Millisecond))))
		var all errgroup.Group
		for i := range 1 + rand.IntN(8) {
			all.Go(func() error { return w.commitOne(t.Context(), h, 10*round+i) })
		}
		require.NoError(t, all.Wait())
		committed := time.Now()
		for _, c := range receivers {
			w.settle(t, c)
		}
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	n := len(took)
	t.Logf("%d rounds, %d changes, from the last commit to the last arrival p50 %s p99 %s max %s", n, len(w.committed), took[n/2], took[n*99/100], took[n-1])
}

// commitOne commits one change, or rolls it back.
func (w *writers) commitOne(ctx context.Context, h *rig, key int) error {
	tx, err := h.pool.Begin(ctx)
	if err != nil {
		return err
	}
	name, err := w.revise(ctx, tx, key)
	if err == nil {
		err = sleep(ctx, time.Duration(rand.IntN(4))*time.Millisecond)
	}
	if err != nil || rand.IntN(10) == 0 {
		return errors.Join(err, tx.Rollback(ctx))
	}
	if err = tx.Commit(ctx); err == nil {
		w.note(w.committed, []string{name})
	}
	return err
}

// TestFewOfTheCommitsAtOneMomentNotify runs the trigger of each transaction before it commits.
func TestFewOfTheCommitsAtOneMomentNotify(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	require.NoError(t, EnsureWake(t.Context(), h.pool, "ch", false))
	ear, err := h.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer ear.Release()
	execSQL(t, ear.Conn(), `listen ch`)
	execSQL(t, ear.Conn(), `select pg_advisory_lock(core.fn_observer_wake_key('ch'))`)
	w := waker{key: queryOne[int64](t, h.pool, `select core.fn_observer_wake_key('ch')`)}
	var committing []pgx.Tx
	for range 6 {
		tx, err := h.pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `select core.emit_event('Order', '{}')`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `set constraints all immediate`)
		require.NoError(t, err)
		committing = append(committing, tx)
	}
	silent := func() bool {
		return queryOne[bool](t, h.pool, silentSQL, w.crowdLocks())
	}
	require.True(t, silent())
	for i, payload := range []string{"", "crowd"} {
		require.NoError(t, committing[i].Commit(t.Context()))
		n, err := ear.Conn().WaitForNotification(t.Context())
		require.NoError(t, err)
		require.Equal(t, payload, n.Payload)
	}
	for _, tx := range committing[2:] {
		require.True(t, silent())
		require.NoError(t, tx.Commit(t.Context()))
	}
	require.False(t, silent())
	execSQL(t, h.pool, `notify ch, 'last'`)
	n, err := ear.Conn().WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, "last", n.Payload, "the others did not notify")
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
