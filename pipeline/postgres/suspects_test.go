package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
			r := h.reader(h.acquire())
			r.none()
			r.close() // a clean end
			h.emit(1, 5)
			starts, neighbours := 0, map[string]int{}
			for range 10 {
				r = h.reader(h.acquireAgain(), func(c *ReaderConfig) { c.MaxDeliver = tc.max })
				poison := h.untilDeath(r, "3", tc.quick, &starts, neighbours)
				if poison != "" {
					require.Contains(t, poison, "without an outcome")
					require.Equal(t, tc.want, starts)
					for _, key := range []string{"1", "2", "4", "5"} {
						require.NotZero(t, neighbours[key], "neighbour %s", key)
					}
					return
				}
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
