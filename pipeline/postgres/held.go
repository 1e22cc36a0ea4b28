package postgres

import (
	"container/heap"
	"time"
)

// Reading stops while more than this is held back, so that nacking everything cannot fill the memory.
const (
	maxHeld      = 10_000
	maxHeldBytes = 32 << 20
)

// heldBack are the delayed entries, by due time.
type heldBack struct {
	list  []*entry
	bytes int
}

var _ heap.Interface = (*heldBack)(nil)

func (h *heldBack) Len() int           { return len(h.list) }
func (h *heldBack) Less(i, j int) bool { return h.list[i].due.Before(h.list[j].due) }
func (h *heldBack) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push is for package heap; see push.
func (h *heldBack) Push(x any) { h.list = append(h.list, x.(*entry)) } //nolint:forcetypeassert // push gives entries

// Pop is for package heap; see due.
func (h *heldBack) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return e
}

func (h *heldBack) push(e *entry) {
	h.bytes += e.size
	heap.Push(h, e)
}

// due takes out the entry that may be offered again first, nil when none may.
func (h *heldBack) due(now time.Time) *entry {
	for len(h.list) > 0 && !h.list[0].due.After(now) {
		e := heap.Pop(h).(*entry) //nolint:forcetypeassert // push gives entries
		h.bytes -= e.size
		if e.state == delayed {
			return e
		}
	}
	return nil
}

// wait is how long it takes until due has something.
func (h *heldBack) wait(now time.Time) time.Duration {
	if len(h.list) == 0 {
		return longWait
	}
	return max(h.list[0].due.Sub(now), 0)
}

func (h *heldBack) full() bool { return len(h.list) > maxHeld || h.bytes > maxHeldBytes }
