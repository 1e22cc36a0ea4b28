package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/window"
)

// expire makes the lease of a process that is gone free at once.
func (h *rig) expire() {
	h.tb.Helper()
	h.exec(`update core.tb_observer_lease set expires_at = clock_timestamp() - interval '1 second'`)
}

func TestReleasedLeaseIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	first := h.acquire()
	require.True(t, first.Held())
	got := make(chan *Lease, 1)
	go func() { got <- h.acquire() }()
	select {
	case <-got:
		require.Fail(t, "two leaders")
	case <-time.After(1500 * time.Millisecond): // longer than a renewal
	}
	require.NoError(t, first.Release(t.Context()))
	require.False(t, first.Held())
	released := time.Now()
	second := <-got
	require.Less(t, time.Since(released), time.Second)
	require.Equal(t, first.Generation()+1, second.Generation())
	require.False(t, second.Unclean())
	require.False(t, second.First())
}

func TestStandbyTakesOverFromALeaderThatStopped(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	old := h.acquire()
	r := h.reader(old)
	r.none()
	h.emit(1, 2)
	items := r.take(2)
	h.storedPending(2)
	old.suspend.Store(true) // as SIGSTOP does
	stopped := time.Now()
	next := h.acquire()
	require.Less(t, time.Since(stopped), 5*time.Second)
	require.False(t, old.Held(), "an old leader must have stopped starting actions before another leads")
	require.True(t, next.Unclean())
	require.Equal(t, old.Generation()+1, next.Generation())

	r2 := h.reader(next)
	require.Equal(t, numbers(1, 2), keys(r2.take(2)))
	r.ack(items...)
	require.ErrorIs(t, r.store(t.Context(), h.pool, image{position: position{from: beginning}, pending: []int64{}, starts: []int32{}}, 1), ErrDeposed)
	old.suspend.Store(false) // as SIGCONT does
	select {
	case <-old.Lost():
	case <-time.After(5 * time.Second):
		require.Fail(t, "the old leader did not notice")
	}
	_, err := r.Fetch(t.Context(), 1)
	require.ErrorIs(t, err, ErrDeposed)
	require.True(t, window.IsFatal(err))
	h.storedPending(2)
}

func TestLeaseOutlivesItsConnectionAndItsExpiry(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	lease.suspend.Store(true)
	testenv.Eventually(t, 6*time.Second, func() error {
		if lease.Held() {
			return errNotYet
		}
		return nil
	})
	h.exec(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1`, lease.owner)
	h.expire()
	lease.suspend.Store(false)
	testenv.Eventually(t, 5*time.Second, func() error {
		if !lease.Held() {
			return errNotYet
		}
		return nil
	})
}

func TestTakeoverEndsTheOldLeadersSessions(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	old := h.acquire()
	old.suspend.Store(true)
	r := h.reader(old)
	r.none()
	h.expire()
	next := h.acquire()
	testenv.Eventually(t, 5*time.Second, func() error {
		var n int
		err := h.pool.QueryRow(t.Context(), `select count(*) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid() and backend_start < $2`,
			old.owner, time.Now().Add(-time.Hour)).Scan(&n)
		if err != nil {
			return err
		}
		if n > 0 {
			return errNotYet
		}
		return nil
	})
	require.Greater(t, next.Generation(), old.Generation())
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	h.acquire()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Acquire(ctx, LeaseConfig{Pool: h.pool, Config: h.cfg, Name: h.cfg.ListenerName, Log: h.log})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
