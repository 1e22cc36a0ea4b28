package faults

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestEndingUnderLoadRepeatsNothing ends the process again and again while the writers go on.
func TestEndingUnderLoadRepeatsNothing(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	config := w.config(t, settings{shutdown: "5s", start: "beginning"})
	w.receiver.delay(5*time.Millisecond, 50*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	for range pick(3, 8) {
		o := startObserver(t, config)
		w.delivers(t, time.Now(), "")
		wait(t.Context(), pick(700*time.Millisecond, 2*time.Second))
		code, took := o.terminate(t)
		require.Zero(t, code)
		require.Less(t, took, soon)
		require.NotContains(t, o.text(), "level=ERROR")
	}
	o := startObserver(t, config)
	o.leads(t)
	v := w.finish(t, "SIGTERM under load, restart", o)
	require.Zero(t, v.duplicates)
}

// TestEndingDoesNotWaitLongerThanItsLimit ends the process while the receiver hangs.
func TestEndingDoesNotWaitLongerThanItsLimit(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	config := w.config(t, settings{shutdown: "1s", timeout: 60_000}) // a busy machine must not make the receiver's delay a failed attempt
	o := startObserver(t, config)
	o.leads(t)
	w.receiver.delay(10*time.Second, 10*time.Second)
	w.commits(t, 40)
	w.delivers(t, time.Now().Add(-time.Second), "")
	code, took := o.terminate(t)
	w.kills = append(w.kills, o.ended) // what ran was cut off, and comes again
	require.Zero(t, code, "what was not finished is left for the next process")
	require.Less(t, took, 8*time.Second, "it waited for the receiver")
	w.receiver.delay(0, 0)
	o = startObserver(t, config)
	v := w.finish(t, "SIGTERM, the receiver hangs", o)
	require.LessOrEqual(t, v.duplicates, concurrency)
}

// TestAFirstStartDoesNotWaitForALongTransaction starts the process in a database where a transaction that has written
// stays open: it blocks the installation of the wake-up trigger, which in turn would block every writer.
func TestAFirstStartDoesNotWaitForALongTransaction(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	startWriters(t, w.writers, t.Name())
	w.writers.grows(t, 100)
	o := startObserver(t, w.config(t, settings{}))
	o.leads(t)
	begun, before := time.Now(), w.journal.size()
	o.awaits(t, "wake-up trigger not installed yet")
	w.delivers(t, begun, "")
	wait(t.Context(), 3*time.Second)
	require.Greater(t, w.journal.size()-before, 200, "writers are held up for moments only")
	w.writers.stop()
	testenv.Eventually(t, within, func() error {
		n, err := queryURL[int](t.Context(), w.url, `select count(*) from pg_trigger where tgrelid = 'core.tb_entity_change_log'::regclass and tgname like 'observer_wake%'`)
		if err == nil && n != 1 {
			err = errors.New("the wake-up trigger is not installed")
		}
		return err
	})
	code, _ := o.terminate(t)
	require.Zero(t, code)
}
