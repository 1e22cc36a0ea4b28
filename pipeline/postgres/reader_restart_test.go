package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/window"
)

// storedPending waits until the stored checkpoint has n pending rows.
func (h *rig) storedPending(n int) {
	h.tb.Helper()
	testenv.Eventually(h.tb, 5*time.Second, func() error {
		c, err := loadCheckpoint(h.tb.Context(), h.pool, h.cfg.ListenerName)
		if err != nil {
			return err
		}
		if len(c.pending) != n {
			return fmt.Errorf("%d rows are pending, not %d", len(c.pending), n)
		}
		return nil
	})
}

func TestRestartResumesWhatIsPendingAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	h.emit(1, 5)
	items := r.take(5)
	r.ack(items[0], items[2], items[4])
	h.storedPending(2)
	r.crash()
	h.emit(6, 7)

	r = h.reader(lease)
	items = r.take(4)
	require.Equal(t, []string{"2", "4", "6", "7"}, keys(items))
	r.none()
	r.ack(items...)
	r.close()
	h.storedPending(0)
}

func TestWhatACleanEndLeavesWasNotStarted(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	h.emit(1, 3)
	items := r.take(3)
	h.storedPending(3)
	r.ack(items[1])
	r.close()
	c, err := loadCheckpoint(t.Context(), h.pool, h.cfg.ListenerName)
	require.NoError(t, err)
	require.Equal(t, []int32{0, 0}, c.starts)
	require.Equal(t, []string{"1", "3"}, keys(h.reader(lease).take(2)))
}

func TestNackedComesAgainAfterItsDelayAndHoldsNothing(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.emit(1, 3)
	items := r.take(3)
	begun := time.Now()
	require.NoError(t, r.Nack(t.Context(), items[0], 200*time.Millisecond))
	r.ack(items[1:]...)
	h.emit(4, 4)
	four := r.take(1)
	require.Equal(t, []string{"4"}, keys(four))
	again := r.take(1)
	require.Equal(t, []string{"1"}, keys(again))
	require.GreaterOrEqual(t, time.Since(begun), 200*time.Millisecond)
	require.Equal(t, items[0].Msg.UUID, again[0].Msg.UUID)
	r.ack(append(four, again...)...)
	r.none()
	r.close()
	h.storedPending(0)
}

func TestDeletingTheCheckpointDeliversTheLogAgain(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	h.emit(1, 4)
	items := r.take(4)
	r.ack(items[:3]...) // 4 stays in flight: it is not started twice
	h.storedPending(1)

	h.exec(`delete from public.tb_observer_checkpoint`)
	again := r.take(3)
	require.Equal(t, numbers(1, 3), keys(again))
	r.ack(append(again, items[3])...)
	h.storedPending(0)
	r.none()
	r.close()

	h.exec(`delete from public.tb_observer_checkpoint`)
	require.NoError(t, lease.Release(t.Context()))
	lease = h.acquire()
	require.False(t, lease.First())
	r = h.reader(lease)
	require.Equal(t, numbers(1, 4), keys(r.take(4)))
}

func TestOperatorMovesTheCheckpointOfARunningReader(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.emit(1, 3)
	r.ack(r.take(3)...)
	h.storedPending(0)
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, h.cfg.ListenerName, "beginning"))
	r.ack(r.take(3)...)
	h.storedPending(0)
	var at time.Time
	require.NoError(t, h.pool.QueryRow(t.Context(), `select clock_timestamp()`).Scan(&at))
	h.emit(4, 5)
	r.ack(r.take(2)...)
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, h.cfg.ListenerName, at.UTC().Format(time.RFC3339Nano)))
	require.Equal(t, numbers(4, 5), keys(r.take(2)))
	require.NoError(t, SetCheckpoint(t.Context(), h.pool, h.cfg.ListenerName, "now"))
	r.none()
}

func TestFirstStartFrom(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		from func(middle time.Time) string
		want []string
	}{
		"the beginning": {func(time.Time) string { return "beginning" }, numbers(1, 6)},
		"a time":        {func(middle time.Time) string { return middle.Format(time.RFC3339Nano) }, numbers(4, 6)},
		"a later time":  {func(time.Time) string { return time.Now().Add(time.Hour).Format(time.RFC3339) }, numbers(6, 6)},
		"now":           {func(time.Time) string { return "now" }, numbers(6, 6)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestRig(t)
			h.emit(1, 3)
			var middle time.Time
			require.NoError(t, h.pool.QueryRow(t.Context(), `select clock_timestamp()`).Scan(&middle))
			h.emit(4, 5)
			h.cfg.StartFrom = tc.from(middle.UTC())
			r := h.reader(h.acquire())
			if len(tc.want) == 1 {
				r.none()
			}
			h.emit(6, 6)
			require.Equal(t, tc.want, keys(r.take(len(tc.want))))
			r.none()
		})
	}
}

func TestFirstStartRefusesAPositionThatIsNone(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: "x", StartFrom: "yesterday", Log: h.log})
	require.ErrorContains(t, err, `start_from "yesterday" is neither now, beginning nor an RFC 3339 time`)
}

func TestWrongClusterIsFatal(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	lease.suspend.Store(true) // a renewal would find it as well
	h.exec(`update public.tb_observer_checkpoint set system_identifier = '123'`)
	r := h.reader(lease)
	_, err := r.Fetch(t.Context(), 1)
	require.ErrorIs(t, err, ErrWrongCluster)
	require.True(t, window.IsFatal(err))
	require.ErrorContains(t, err, "observer checkpoint set observer --to now|beginning")
}

func TestCaptureMarkerIsPoison(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.exec(`insert into core.tb_entity_change_log (object_type, modification_type, object_key, extra_metadata) values ('Order', 'INSERT', '7', '{"capture_error": "unsupported Unicode"}')`)
	items := r.take(1)
	require.Contains(t, items[0].Msg.Metadata.Get(window.MetadataPoison), "unsupported Unicode")
	require.Equal(t, "7", event.OfContext(items[0].Msg.Context()).EntityID)
	r.ack(items...)
}

// TestWhatHasSettledOfARowIsStored follows a row of which one action has settled, through an outage, a crash and a clean end.
func TestWhatHasSettledOfARowIsStored(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	tracked := func(c *ReaderConfig) { c.Tracked = true }
	trackers := func(items []window.Item) (one, two window.Tracker) {
		return window.TrackerOf(items[0].Msg.Context()), window.TrackerOf(items[1].Msg.Context())
	}
	r := h.reader(h.acquire(), tracked)
	r.none()
	h.emit(1, 2)
	items := r.take(2)
	one, _ := trackers(items)
	one.Start()
	one.Done("o/quick")
	testenv.Eventually(t, 5*time.Second, func() error {
		c, err := loadCheckpoint(t.Context(), h.pool, h.cfg.ListenerName)
		if err == nil && len(c.done) != 1 {
			err = fmt.Errorf("stored as settled: %v", c.done)
		}
		return err
	})
	h.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'observer observer %'`)
	for _, item := range items {
		require.NoError(t, r.Nack(t.Context(), item, 0))
	}
	one, two := trackers(r.take(2))
	require.True(t, one.WasDone("o/quick"))
	require.False(t, one.WasDone("o/slow") || two.WasDone("o/quick"))
	r.crash()

	r = h.reader(h.acquireAgain(), tracked)
	one, two = trackers(r.take(2))
	require.True(t, one.WasDone("o/quick"))
	two.Done("o/slow")
	r.close()

	r = h.reader(h.acquireAgain(), tracked)
	items = r.take(2)
	one, two = trackers(items)
	require.True(t, one.WasDone("o/quick") && two.WasDone("o/slow"))
	require.False(t, two.WasDone("o/quick"))
	r.ack(items...)
	h.storedPending(0)
}

func TestWhatNoEventTypeNamesIsPoison(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.exec(`insert into core.tb_entity_change_log (object_type, modification_type, object_data) values ('Order', 'update', '{}')`)
	items := r.take(1)
	require.Equal(t, `modification_type "update" is not one of INSERT, UPDATE, DELETE, CUSTOM`, items[0].Msg.Metadata.Get(window.MetadataPoison))
	r.ack(items...)
}

func TestATimeThatNoEventCanHaveStallsNothing(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.exec(`insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data, created_at)
		select 'Order', 'INSERT', n, '{}', t::timestamptz from unnest(array['infinity', '-infinity', '12026-01-01', '0044-03-15 BC', '2026-01-31 12:00+00']) with ordinality x(t, n)`)
	items := r.take(5)
	require.Equal(t, numbers(1, 5), keys(items))
	for i, item := range items {
		e := event.OfContext(item.Msg.Context())
		if i < 4 {
			require.WithinDuration(t, time.Now(), e.Timestamp, time.Minute)
			continue
		}
		require.Equal(t, "2026-01-31T12:00:00Z", e.Timestamp.Format(time.RFC3339))
	}
	r.ack(items...)
}

// TestAnOutageHidesNoMovedCheckpoint moves the checkpoint while the connections break: what had settled comes again.
func TestAnOutageHidesNoMovedCheckpoint(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.emit(1, 3)
	items := r.take(3)
	hold, err := h.pool.Begin(t.Context()) // the settled rows cannot be stored
	require.NoError(t, err)
	defer func() { _ = hold.Rollback(context.Background()) }()
	_, err = hold.Exec(t.Context(), `update public.tb_observer_checkpoint set snapshot_from = '3:3:', pending = '{}', starts = '{}', epoch = epoch + 1`)
	require.NoError(t, err)
	r.ack(items...)
	_, err = hold.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'observer observer %'`)
	require.NoError(t, err)
	require.NoError(t, hold.Commit(t.Context()))
	again := r.take(3)
	require.Equal(t, numbers(1, 3), keys(again))
	r.ack(again...)
}

func TestASilentServerIsAReasonAgainstReadiness(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	require.NoError(t, r.Stats().Err)
	lock, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = lock.Rollback(context.Background()) }()
	_, err = lock.Exec(t.Context(), `lock table core.tb_entity_change_log in access exclusive mode`)
	require.NoError(t, err)
	testenv.Eventually(t, 20*time.Second, func() error {
		if r.Stats().Err == nil {
			return errors.New("it says that all is well")
		}
		return nil
	})
	require.ErrorContains(t, r.Stats().Err, "the server has not answered for")
	require.NoError(t, lock.Rollback(t.Context()))
	h.emit(1, 1)
	r.ack(r.take(1)...)
	require.NoError(t, r.Stats().Err)
}

func TestWindowLargerThanAPageWithTransactionsThatWereRunning(t *testing.T) {
	t.Parallel()
	h := newTestRig(t, func(c *Config) { c.BatchSize = 10 })
	lease := h.acquire()
	early, err := h.pool.Begin(t.Context())
	t.Cleanup(func() { _ = early.Rollback(context.Background()) })
	require.NoError(t, err)
	late, err := h.pool.Begin(t.Context())
	t.Cleanup(func() { _ = late.Rollback(context.Background()) })
	require.NoError(t, err)
	_, err = early.Exec(t.Context(), insertRange, 1, 35)
	require.NoError(t, err)
	h.emit(36, 40)
	_, err = late.Exec(t.Context(), insertRange, 41, 45)
	require.NoError(t, err)
	r := h.reader(lease)
	r.ack(r.take(5)...) // 36 … 40: the snapshot now knows both transactions as running
	h.storedPending(0)
	r.close()
	h.emit(46, 100)
	require.NoError(t, early.Commit(t.Context()))
	h.emit(101, 105)

	r = h.reader(lease)
	first := r.take(12)
	h.storedPending(30) // the third page is read once the second is not enough for one
	r.crash()           // in the middle of the window
	require.NoError(t, late.Commit(t.Context()))
	r = h.reader(lease)
	all := r.take(12 + 10 + 35 + 55 + 5 - 22 + 5)
	require.Equal(t, keys(first), keys(all[:12]))
	var want []string
	want = append(append(want, numbers(1, 35)...), numbers(46, 105)...)
	require.Equal(t, append(want, numbers(41, 45)...), keys(all), "the late transaction is the next window")
	r.ack(all...)
	r.none()
	r.close()
	h.storedPending(0)
}

func TestSessionsThatAreTerminatedLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	w := newWriters(h)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	c := receive(r)
	ctx, cancel := context.WithTimeout(t.Context(), soak(t))
	defer cancel()
	go func() {
		for sleep(ctx, 300*time.Millisecond) == nil {
			_, _ = h.pool.Exec(context.WithoutCancel(ctx), `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and random() < 0.5`, lease.owner)
		}
	}()
	w.write(ctx, h, 6)
	w.settle(t, c)
	t.Logf("%d changes committed", len(w.committed))
	c.stop()
	r.close()
	h.storedPending(0)
}

func TestPostgresCrashesWhileTheReaderRuns(t *testing.T) {
	t.Parallel()
	cluster := testenv.PostgresCluster(t, "wal_writer_delay = 10s")
	h := newRig(t, cluster.NewDatabase(t))
	w := newWriters(h)
	r := h.reader(h.acquire())
	r.none()
	c := receive(r)
	reused := 0
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		w.write(ctx, h, 4)
		cancel()
		last := h.burn(2000)
		h.pollNow()
		cluster.Stop(t, "immediate")
		cluster.Start(t)
		h.pool.Reset()
		var next uint64
		testenv.Eventually(t, 10*time.Second, func() error {
			return h.pool.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&next)
		})
		if next < last {
			reused++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	w.write(ctx, h, 4)
	w.settle(t, c)
	require.Positive(t, reused, "transaction ids were never given out again: the test showed nothing")
	c.stop()
	r.close()
}

// burn uses transaction ids that leave no trace on disk, and returns the last.
func (h *rig) burn(n int) (last uint64) {
	h.tb.Helper()
	conn, err := h.pool.Acquire(h.tb.Context())
	require.NoError(h.tb, err)
	defer conn.Release()
	for range n {
		tx, err := conn.Begin(h.tb.Context())
		require.NoError(h.tb, err)
		require.NoError(h.tb, tx.QueryRow(h.tb.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&last))
		require.NoError(h.tb, tx.Rollback(h.tb.Context()))
	}
	return last
}

// pollNow wakes the reader so that it takes a snapshot, and gives it the time for that.
func (h *rig) pollNow() {
	h.tb.Helper()
	h.exec(`set synchronous_commit = off`)
	h.exec(`notify fraiseql_events`)
	_ = sleep(h.tb.Context(), 30*time.Millisecond)
}

var errNotYet = errors.New("not yet")
