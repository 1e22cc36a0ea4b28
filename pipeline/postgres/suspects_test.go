package postgres

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/window"
)

func TestEventThatEndsTheProcessBecomesPoisonAfterThreeStarts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		quick bool // the process ends before anything is stored
		max   int
		want  int
	}{
		"after a while":                 {false, 3, 3},
		"at once":                       {true, 3, 3},
		"at once, with five starts":     {true, 5, 5},
		"after a while, with two":       {false, 2, 2},
		"at once, with no second start": {true, 1, 2}, // the first start has no mark of its own
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestRig(t)
			lease := h.acquire() // of a process that is new
			starts, neighbours := 0, map[string]int{}
			h.emit(1, 5)
			for range 10 {
				r := h.reader(lease, func(c *ReaderConfig) { c.MaxDeliver = tc.max })
				poison := h.untilDeath(r, "3", tc.quick, &starts, neighbours)
				if poison != "" {
					require.Contains(t, poison, "without an outcome")
					require.Equal(t, tc.want, starts)
					for _, key := range []string{"1", "2", "4", "5"} {
						require.NotZero(t, neighbours[key], "neighbour %s", key)
					}
					return
				}
				lease = h.acquireAgain()
			}
			require.Fail(t, "it never became poison", "%d starts", starts)
		})
	}
}

// acquireAgain takes the lease as the successor of a process that did not release it.
func (h *rig) acquireAgain() *Lease {
	h.tb.Helper()
	h.expire()
	return h.acquire()
}

// untilDeath handles events one by one until the one named comes, which ends the reader without a trace, or until it
// comes as poison: then it returns why and handles the rest.
func (h *rig) untilDeath(r *readerRig, killer string, quick bool, starts *int, seen map[string]int) (poison string) {
	h.tb.Helper()
	for {
		if poison != "" && len(seen) == 4 {
			r.close()
			return poison
		}
		item := r.take(1)[0]
		key := keys([]window.Item{item})[0]
		if key != killer {
			seen[key]++
			r.ack(item)
			continue
		}
		if poison = item.Msg.Metadata.Get(window.MetadataPoison); poison != "" {
			r.ack(item)
			continue
		}
		*starts++
		if !quick {
			_ = sleep(h.tb.Context(), 3*storePause)
		}
		r.crash()
		return ""
	}
}

// TestOnlyWhatHasBegunCountsAsStarted: rows that wait in the process cannot have ended it.
func TestOnlyWhatHasBegunCountsAsStarted(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire(), func(c *ReaderConfig) { c.Tracked = true })
	r.none()
	h.emit(1, 4)
	items := r.take(4)
	window.TrackerOf(items[1].Msg.Context()).Start()
	testenv.Eventually(t, 5*time.Second, func() error {
		c, err := loadCheckpoint(t.Context(), h.pool, h.cfg.ListenerName)
		if err == nil && !slices.Equal(c.starts, []int32{0, 1, 0, 0}) {
			err = fmt.Errorf("starts are %v", c.starts)
		}
		return err
	})
	require.NoError(t, r.Nack(t.Context(), items[1], 0))
	again := r.take(1)
	require.Equal(t, items[1].Msg.UUID, again[0].Msg.UUID)
	testenv.Eventually(t, 5*time.Second, func() error {
		c, err := loadCheckpoint(t.Context(), h.pool, h.cfg.ListenerName)
		if err == nil && slices.Max(c.starts) > 0 {
			err = fmt.Errorf("starts are %v: a failure is an outcome", c.starts)
		}
		return err
	})
}

// TestFewRowsAreOutWhileStartsAreStored bounds how many innocent rows a crash can make suspect.
func TestFewRowsAreOutWhileStartsAreStored(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	h.reader(h.acquire()).none()
	r := h.reader(h.acquireAgain())
	h.emit(1, 3*carefulRows)
	first := r.take(carefulRows)
	r.none()
	r.ack(first...)
	r.ack(r.take(2 * carefulRows / 2)...)
	r.ack(r.take(carefulRows)...)
	r.none()
	h.emit(1, 3*carefulRows)
	r.ack(r.take(3 * carefulRows)...) // it has caught up with what the process before may have started
}

func TestSuspectRunsAlone(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	r := h.reader(h.acquire())
	r.none()
	h.emit(1, 4)
	items := r.take(4)
	h.storedPending(4)
	r.crash()
	h.exec(`update public.tb_observer_checkpoint set starts = array[0, 2, 0, 0]`)

	r = h.reader(h.acquireAgain())
	one := r.take(1)
	require.Equal(t, "1", keys(one)[0])
	r.none() // the suspect waits for 1
	r.ack(one...)
	two := r.take(1)
	require.Equal(t, "2", keys(two)[0])
	c, err := loadCheckpoint(t.Context(), h.pool, h.cfg.ListenerName)
	require.NoError(t, err)
	require.NotNil(t, c.alone)
	require.Equal(t, int32(3), c.starts[0], "its start is stored before it starts")
	h.emit(5, 5)
	r.none() // the others wait for the suspect
	require.NoError(t, r.Nack(t.Context(), two[0], time.Hour))
	rest := r.take(3)
	require.Equal(t, []string{"3", "4", "5"}, keys(rest))
	r.ack(rest...)
	r.close()
	h.storedPending(1)
	require.Len(t, items, 4)
}
