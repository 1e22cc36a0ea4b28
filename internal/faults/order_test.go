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

// partitions is how many the stream of these scenarios has.
const partitions = 12

// ordered is a fleet whose workers have partitions. What fails holds up what is newer, so that nothing may be out of order.
func ordered(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t, 1, natsCluster(t, 1))
	f.parts, f.onRetry = partitions, "hold"
	return f
}

// settled checks that all arrived, in order.
func (f *fleet) settled(t *testing.T, fault string, processes ...*observer) verdict {
	t.Helper()
	w := f.worlds[0]
	committed := w.settle(t)
	for _, o := range processes {
		code, _ := o.terminate(t)
		require.Zero(t, code, "exit code after SIGTERM")
	}
	w.measure()
	v := check(committed, w.arrived(), w.kills, w.excused)
	report(t, fault, v, w.recovery)
	return v
}

// TestWithPartitionsOrderHoldsAcrossWorkers adds, ends, kills and stops workers at random.
func TestWithPartitionsOrderHoldsAcrossWorkers(t *testing.T) {
	onlyLong(t)
	scenario(t)
	f := ordered(t)
	w := f.worlds[0]
	bridge := f.bridge(t, 0, "bridge")
	bridge.leads(t)
	names := []string{"one", "two", "three"}
	workers := map[string]*observer{}
	for _, name := range names {
		workers[name] = f.worker(t, name)
		workers[name].awaits(t, taken)
	}
	f.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	names = append(names, "four")
	workers["four"] = f.worker(t, "four")
	random, ways := newRandom(t.Name(), 1), pick([]int{0, 2}, []int{0, 1, 2}) // a busy machine does not see in time who stands still
	for i, end := 0, time.Now().Add(pick(8*time.Second, time.Minute)); time.Now().Before(end); i++ {
		wait(t.Context(), pick(time.Second, 3*time.Second))
		name := names[random.IntN(len(names))]
		workers[name] = f.breakWorker(t, name, workers[name], ways[i%len(ways)])
	}
	processes := []*observer{bridge}
	for _, name := range names {
		testenv.Eventually(t, 2*within, func() error {
			if f.receiver.firstAfter(time.Time{}, name).IsZero() {
				return fmt.Errorf("worker %s has had no share", name)
			}
			return nil
		})
		processes = append(processes, workers[name])
	}
	v := f.settled(t, fmt.Sprintf("%d partitions, 4 workers, killed, stopped and ended at random", partitions), processes...)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

const taken = `msg="partitions taken"`

// breakWorker kills a worker, stops it for longer than its lease, or ends it, and has it work again.
func (f *fleet) breakWorker(t *testing.T, name string, o *observer, how int) *observer {
	t.Helper()
	switch how {
	case 0:
		f.killed(o.kill())
		wait(t.Context(), pick(time.Second, 2*time.Second))
		return f.worker(t, name)
	case 1:
		offset := len(o.text())
		o.signal(syscall.SIGSTOP)
		f.killed(time.Now()) // what it had in flight may come again from the others
		wait(t.Context(), 7*time.Second)
		woken := time.Now()
		o.signal(syscall.SIGCONT)
		testenv.Eventually(t, within, func() error { return o.saysAfter(offset, taken) })
		require.NoError(t, o.saysAfter(offset, "deposed: other workers took this one for dead"))
		f.straying(t, name, woken)
		return o
	default:
		o.awaits(t, "msg=working")
		code, _ := o.terminate(t)
		require.Zero(t, code)
		return f.worker(t, name)
	}
}

// straying excuses what a stopped worker had so far on its way that nothing could call it back.
func (f *fleet) straying(t *testing.T, name string, woken time.Time) {
	t.Helper()
	w := f.worlds[0]
	late := 0
	for _, r := range w.arrived() {
		if r.instance == name && r.at.After(woken) && r.at.Before(woken.Add(250*time.Millisecond)) {
			id, _, _ := strings.Cut(r.id, "_")
			w.excused[id] = true
			late++
		}
	}
	require.LessOrEqual(t, late, strays, "a deposed worker ran actions")
}

// TestWithPartitionsWhatIsHeldKeepsItsOrder lets a receiver fail now and then, so that lanes are parked, while workers come
// and go.
func TestWithPartitionsWhatIsHeldKeepsItsOrder(t *testing.T) {
	onlyLong(t)
	scenario(t)
	f := ordered(t)
	f.ackWait = 15 // nothing dies here, and a busy machine may keep a worker from saying that it lives
	w := f.worlds[0]
	bridge := f.bridge(t, 0, "bridge")
	bridge.leads(t)
	one, two := f.worker(t, "one"), f.worker(t, "two")
	one.awaits(t, taken)
	two.awaits(t, taken)
	f.receiver.delay(0, 20*time.Millisecond)
	f.receiver.misbehaves(20, unavailable)
	startWriters(t, w.writers, t.Name())
	three := f.worker(t, "three")
	three.awaits(t, taken)
	wait(t.Context(), pick(3*time.Second, 20*time.Second))
	code, _ := two.terminate(t)
	require.Zero(t, code)
	wait(t.Context(), pick(3*time.Second, 20*time.Second))
	two = f.worker(t, "two")
	two.awaits(t, taken)
	wait(t.Context(), pick(3*time.Second, 20*time.Second))
	f.receiver.misbehaved(t, 10)
	f.receiver.misbehaves(0)
	v := f.settled(t, fmt.Sprintf("%d partitions, 1 request in 20 fails, on_retry = hold", partitions), bridge, one, two, three)
	require.Zero(t, v.duplicates)
}
