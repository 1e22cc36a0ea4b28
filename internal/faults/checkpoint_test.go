package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestADeletedCheckpointRedeliversTheLog deletes the row while the process runs and while it does not.
func TestADeletedCheckpointRedeliversTheLog(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	const old, fresh = 30, 100
	w.commits(t, old) // before the first start: never delivered
	w.begin()
	config := w.config(t, settings{})
	o := startObserver(t, config)
	o.leads(t)
	w.commits(t, fresh)
	w.settle(t)
	wait(t.Context(), time.Second)
	require.Equal(t, fresh, w.receiver.count(), "a first start delivers from now on")

	log := int(query[int64](t, w, `select count(*) from core.tb_entity_change_log`))
	require.Equal(t, old+fresh, log)
	execute(t, w, `delete from public.tb_observer_checkpoint`)
	begun := time.Now()
	w.arrives(t, fresh+log)
	running := time.Since(begun)
	t.Logf("the running process noticed after %s", running.Round(time.Millisecond))

	w.commits(t, 10)
	w.arrives(t, fresh+log+10)
	code, _ := o.terminate(t)
	require.Zero(t, code)
	execute(t, w, `delete from public.tb_observer_checkpoint`)
	o = startObserver(t, config)
	w.arrives(t, fresh+log+10+log+10)
	wait(t.Context(), time.Second)
	code, _ = o.terminate(t)
	require.Zero(t, code)
	require.Equal(t, fresh+log+10+log+10, w.receiver.count(), "each time the whole log, once")

	v := check(w.journal.all(), w.receiver.all()[:fresh], nil, nil)
	v.events, v.lost, v.details = w.receiver.count(), 0, nil // the first part is in order; the others are the log again, counted above
	report(t, "checkpoint row deleted, running and stopped", v, running)
}

// arrives waits until n requests have arrived in all.
func (w *world) arrives(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		if have := w.receiver.count(); have < n {
			return fmt.Errorf("%d of %d requests arrived", have, n)
		}
		return nil
	})
}
