package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

// waitsForALock returns once a statement that contains text waits for a lock.
func waitsForALock(t *testing.T, pool *pgxpool.Pool, text string) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, func() error {
		var waits bool
		err := pool.QueryRow(t.Context(), `select exists (select from pg_stat_activity
			where wait_event_type = 'Lock' and datname = current_database() and position($1 in query) > 0 and pid <> pg_backend_pid())`, text).Scan(&waits)
		if err == nil && !waits {
			err = errors.New("nothing waits")
		}
		return err
	})
}

// begin starts a transaction that ends with the test.
func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

func TestAFencedWriteWaitsForATakeoverUnderWayAndIsRefused(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*pgxpool.Pool, *event.Delivery) error{
		"park": func(pool *pgxpool.Pool, d *event.Delivery) error {
			return newQueue(t, pool, 1).Park(t.Context(), d, time.Now())
		},
		"dead letter": func(pool *pgxpool.Pool, d *event.Delivery) error { return deadLetters(pool).Put(t.Context(), d) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			tx := begin(t, pool)
			_, err := readLease(t.Context(), tx, "observer", "for update") // what a takeover does
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), `update core.tb_observer_lease set generation = 2, owner = 'another'`)
			require.NoError(t, err)
			written := make(chan error, 1)
			go func() { written <- write(pool, delivery("1", "o", "a")) }()
			waitsForALock(t, pool, "with held as materialized")
			require.NoError(t, tx.Commit(t.Context()))
			require.ErrorIs(t, <-written, ErrDeposed)
		})
	}
}

func TestATakeoverWaitsForAFencedWriteUnderWay(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	old := h.acquire()
	old.suspend.Store(true) // as SIGSTOP does
	tx := begin(t, h.pool)
	require.NoError(t, (&DeadLetters{DB: tx, Listener: "observer", Fence: old}).Put(t.Context(), delivery("1", "o", "a")))
	h.expire()
	took := make(chan *Lease, 1)
	go func() { took <- h.acquire() }()
	waitsForALock(t, h.pool, "for update")
	require.Empty(t, took)
	require.NoError(t, tx.Commit(t.Context()))
	require.Greater(t, (<-took).Generation(), old.Generation())
	require.Len(t, onlyDeadLetter(t, deadLetters(h.pool)).EventID, 36)
}

// TestAFencedWriteDoesNotKeepARenewalWaiting leaves a write open for longer than a renewal may take.
func TestAFencedWriteDoesNotKeepARenewalWaiting(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	tx := begin(t, h.pool)
	require.NoError(t, (&DeadLetters{DB: tx, Listener: "observer", Fence: lease}).Put(t.Context(), delivery("1", "o", "a")))
	lease.stop()
	<-lease.stopped
	require.NoError(t, lease.renew(t.Context()))
	require.NoError(t, tx.Commit(t.Context()))
}

func TestEveryFencedWriteIsDurableWhateverTheRolesDefault(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	for name, write := range map[string]func(DB) error{
		"park": func(db DB) error {
			q, err := NewRetryQueue(RetryQueueConfig{DB: db, Listener: "observer", Fence: generation(1), MaxDeliver: 3})
			require.NoError(t, err)
			return q.Park(t.Context(), delivery("1", "o", "a"), time.Now())
		},
		"dead letter": func(db DB) error {
			return (&DeadLetters{DB: db, Listener: "observer", Fence: generation(1)}).Put(t.Context(), delivery("1", "o", "a"))
		},
		"dead letter without a fence": func(db DB) error {
			return (&DeadLetters{DB: db, Listener: "observer"}).Put(t.Context(), delivery("1", "o", "a"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx := begin(t, pool)
			_, err := tx.Exec(t.Context(), `set local synchronous_commit = off`)
			require.NoError(t, err)
			require.NoError(t, write(tx))
			var setting string
			require.NoError(t, tx.QueryRow(t.Context(), `show synchronous_commit`).Scan(&setting))
			require.Equal(t, "on", setting)
		})
	}
}
