package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRollingRestartsRepeatNothing replaces the leader of two processes again and again: the one that stood by takes over,
// and a new one stands by.
func TestRollingRestartsRepeatNothing(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	configs := []string{w.config(t, settings{instance: "one"}), w.config(t, settings{instance: "two"})}
	instances := []string{"one", "two"}
	leader := startObserver(t, configs[0])
	leader.leads(t)
	standby := startObserver(t, configs[1])
	standby.awaits(t, standing)
	w.receiver.delay(5*time.Millisecond, 50*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	for i := range pick(3, 12) {
		w.delivers(t, time.Now(), instances[i%2])
		wait(t.Context(), pick(300*time.Millisecond, time.Second))
		code, _ := leader.terminate(t)
		require.Zero(t, code)
		require.NotContains(t, leader.text(), "level=ERROR")
		require.Less(t, w.delivers(t, leader.ended, instances[(i+1)%2]), soon)
		leader, standby = standby, startObserver(t, configs[i%2])
		standby.awaits(t, standing)
	}
	v := w.finish(t, "SIGTERM of leader and standby in turn", leader, standby)
	require.Zero(t, v.duplicates)
}
