package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const standing = `msg="standing by: another process leads"`

func TestAStandbyTakesOverFromAKilledLeader(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	leader := startObserver(t, w.config(t, settings{instance: "one"}))
	leader.leads(t)
	standby := startObserver(t, w.config(t, settings{instance: "two"}))
	standby.awaits(t, standing)
	require.Equal(t, "standby", standby.becomes(t, 200).Status, "a hot standby is ready")
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "one")
	wait(t.Context(), pick(time.Second, 10*time.Second))
	require.True(t, w.receiver.firstAfter(time.Time{}, "two").IsZero(), "a standby runs no action")
	killed := w.kill(leader)
	require.Less(t, w.delivers(t, killed, "two"), soon)
	require.Equal(t, "leader", standby.becomes(t, 200).Status)
	wait(t.Context(), pick(time.Second, 10*time.Second))
	v := w.finish(t, "leader killed -9, a standby", standby)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// TestAStoppedLeaderIsDeposed stops the leader for longer than its lease. What it had sent before is in the receiver's
// hands; awake again it must neither send nor store anything.
func TestAStoppedLeaderIsDeposed(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	leader := startObserver(t, w.config(t, settings{instance: "one"}))
	leader.leads(t)
	standby := startObserver(t, w.config(t, settings{instance: "two"}))
	standby.awaits(t, standing)
	w.receiver.delay(20*time.Millisecond, 100*time.Millisecond) // so slow that deliveries always wait for a slot
	startWriters(t, w.writers, t.Name())
	for i := range pick(1, 2) {
		instances := []string{"one", "two"}
		stopped, other := instances[i%2], instances[(i+1)%2]
		w.delivers(t, time.Now(), stopped)
		w.deposes(t, leader, stopped, other)
		leader, standby = standby, leader
	}
	v := w.finish(t, "leader stopped (SIGSTOP), then continued", leader, standby)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// deposes stops one leader, sees the other take over, and wakes the first again.
func (w *world) deposes(t *testing.T, leader *observer, stopped, other string) {
	t.Helper()
	wait(t.Context(), pick(time.Second, 5*time.Second))
	leader.signal(syscall.SIGSTOP)
	halted := time.Now()
	w.kills = append(w.kills, halted) // what it had in flight may come again from the other
	require.Less(t, w.delivers(t, halted, other), soon)
	generation := query[int64](t, w, `select generation from core.tb_observer_lease where name = 'observer'`)
	seen := w.receiver.firstAfter(halted.Add(time.Second), stopped)
	require.True(t, seen.IsZero(), "a stopped process sends nothing")

	offset := len(leader.text())
	woken := time.Now()
	leader.signal(syscall.SIGCONT)
	testenv.Eventually(t, within, func() error { return leader.saysAfter(offset, standing) })
	t.Logf("deposed leader stands by %s after SIGCONT", time.Since(woken).Round(time.Millisecond))
	wait(t.Context(), pick(time.Second, 5*time.Second))
	w.ranNothing(t, stopped, woken)
	require.Equal(t, generation, query[int64](t, w, `select generation from core.tb_observer_lease where name = 'observer'`), "it took nothing back")
	require.Less(t, w.delivers(t, time.Now(), other), soon/5, "its checkpoint did not move: the leader still stores its own")
	require.Equal(t, "standby", leader.becomes(t, 200).Status)
}

// strays is how many actions may be so far on their way when the process is stopped that nothing can call them back: they
// have looked at the lease for the last time and not yet written to the network. They go out at once after SIGCONT.
const strays = 2

// ranNothing checks that an instance began no action after a moment. What strayed may have been done by the successor too.
func (w *world) ranNothing(t *testing.T, instance string, since time.Time) {
	t.Helper()
	var late []string
	for _, r := range w.arrived() {
		if r.instance != instance || r.at.Before(since) {
			continue
		}
		late = append(late, fmt.Sprintf("%v %s after SIGCONT", r.change, r.at.Sub(since)))
		require.Less(t, r.at.Sub(since), soon/20, "a deposed leader ran an action: %v", late)
		event, _, _ := strings.Cut(r.id, "_")
		w.excused[event] = true
	}
	require.LessOrEqual(t, len(late), strays, "a deposed leader ran actions: %v", late)
	if len(late) > 0 {
		t.Logf("on their way when the process was stopped: %v", late)
	}
}
