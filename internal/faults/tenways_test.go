package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAReceiverThatFailsInTenWaysGetsEverything lets some requests fail, each in another way, and then all of them. What it
// refuses for good becomes a dead letter, the rest arrives in order.
func TestAReceiverThatFailsInTenWaysGetsEverything(t *testing.T) {
	scenario(t)
	require.Len(t, misbehaviours, 10)
	w := newWorld(t, "")
	w.refuses = true
	o := startObserver(t, w.config(t, settings{retry: patient, onRetry: "hold", timeout: 500}))
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	w.receiver.misbehaves(5, misbehaviours...)
	wait(t.Context(), pick(2*time.Second, 20*time.Second))
	if long { // the breaker opens, and each attempt that it lets through fails in another way
		w.receiver.misbehaves(1, misbehaviours...)
		wait(t.Context(), 20*time.Second)
	}
	w.receiver.misbehaved(t, len(misbehaviours))
	w.receiver.misbehaves(0)
	w.delivers(t, time.Now(), "")
	v := w.finish(t, "receiver fails in ten ways", o)
	require.Positive(t, query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`), "what was redirected")
	require.Zero(t, v.duplicates)
}
