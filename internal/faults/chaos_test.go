package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

var chaosTime = pick(4*time.Second, 60*time.Second)

// every calls fault again and again for a time.
func every(t *testing.T, interval, duration time.Duration, fault func()) {
	t.Helper()
	for end := time.Now().Add(duration); time.Now().Before(end); {
		wait(t.Context(), interval)
		fault()
	}
}

func TestLateCommitsAndRollbacksNeitherLoseNorInvert(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	o := startObserver(t, w.config(t, settings{}))
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	wait(t.Context(), chaosTime)
	v := w.finish(t, "late commits, rollbacks, an open transaction", o)
	require.Zero(t, v.duplicates)
	require.Positive(t, w.journal.rolled)
}

func TestKillingTheProcessLosesNothing(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{})
	o := startObserver(t, config)
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	var killed time.Time
	every(t, pick(2*time.Second, 3*time.Second), chaosTime, func() {
		killed = w.kill(o)
		o = startObserver(t, config)
		if !long { // a process must wait for the lease of the killed one: give each a chance to work
			w.delivers(t, killed, "")
		}
	})
	w.delivers(t, killed, "")
	v := w.finish(t, "kill -9 every 3 s", o)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

func TestTerminatingItsSessionsLosesNothing(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	o := startObserver(t, w.config(t, settings{}))
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	ended := 0
	every(t, pick(time.Second, 2*time.Second), chaosTime, func() {
		ended += query[int](t, w, `select count(pg_terminate_backend(pid)) from pg_stat_activity
			where datname = current_database() and application_name like 'observer %'`)
		w.delivers(t, time.Now(), "")
	})
	require.Positive(t, ended)
	v := w.finish(t, "pg_terminate_backend every 2 s", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}

func TestACrashOfPostgresLosesNothing(t *testing.T) {
	scenario(t)
	cluster := testenv.PostgresCluster(t)
	w := newWorld(t, cluster.NewDatabase(t))
	o := startObserver(t, w.config(t, settings{}))
	o.leads(t)
	w.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	wait(t.Context(), chaosTime/2)
	cluster.Stop(t, "immediate")
	cluster.Start(t)
	w.delivers(t, time.Now(), "")
	wait(t.Context(), chaosTime/2)
	v := w.finish(t, "pg_ctl -m immediate, restart", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}

// TestReusedTransactionIDsLoseNothing crashes Postgres while most transactions roll back: the ids that a crash forgets
// are given out again, and a snapshot from before would call their rows old.
func TestReusedTransactionIDsLoseNothing(t *testing.T) {
	scenario(t)
	cluster := testenv.PostgresCluster(t)
	w := newWorld(t, cluster.NewDatabase(t))
	w.writers.abort, w.writers.pause = 0.8, 10*time.Millisecond
	o := startObserver(t, w.config(t, settings{}))
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	for range pick(2, 8) {
		wait(t.Context(), pick(1500*time.Millisecond, 5*time.Second))
		cluster.Stop(t, "immediate")
		cluster.Start(t)
		w.delivers(t, time.Now(), "")
	}
	v := w.finish(t, "crashes among rollbacks (xids reused)", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}
