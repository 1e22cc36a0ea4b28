package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Degraded is the status of a process that works without something that it could do without for a while.
const Degraded = "degraded"

// Reason says why the process is not ready, or what it works without.
type Reason struct {
	Check string    `json:"check"`
	Error string    `json:"error"`
	Since time.Time `json:"since"`
	Fix   string    `json:"fix,omitempty"`

	degrades bool // the process is ready all the same
}

// Health is what the process knows of itself. It starts as "starting" with the reason that it has not begun.
type Health struct {
	mu      sync.Mutex // guards what follows
	status  string
	reasons map[string]Reason
}

// NewHealth returns the health of a process that starts.
func NewHealth() *Health {
	h := &Health{status: "starting", reasons: map[string]Reason{}}
	h.Fail("start", "the process is starting", "")
	return h
}

// Become says what the process does now, such as "leader" or "standby"; it is then no longer starting.
func (h *Health) Become(status string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
	delete(h.reasons, "start")
}

// Fail notes that a check fails, and that the process is not ready; the time of its first failure stays until [Health.OK].
func (h *Health) Fail(check, err, fix string) { h.note(Reason{Check: check, Error: err, Fix: fix}) }

// Degrade notes that a check fails while the process goes on with its work, and stays ready. As with [Health.Fail] the time
// of the first failure stays until [Health.OK].
func (h *Health) Degrade(check, err, fix string) {
	h.note(Reason{Check: check, Error: err, Fix: fix, degrades: true})
}

func (h *Health) note(r Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Since = time.Now()
	if known, ok := h.reasons[r.Check]; ok {
		r.Since = known.Since
	}
	h.reasons[r.Check] = r
}

// OK notes that a check passes.
func (h *Health) OK(check string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reasons, check)
}

// State returns whether the process is ready, its status, and every reason against that. A ready process with reasons is
// [Degraded].
func (h *Health) State() (ready bool, status string, reasons []Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ready, status = true, h.status
	for _, r := range h.reasons {
		reasons = append(reasons, r)
		ready = ready && r.degrades
	}
	if ready && len(reasons) > 0 {
		status = Degraded
	}
	slices.SortFunc(reasons, func(a, b Reason) int { return cmp.Compare(a.Check, b.Check) })
	return ready, status, reasons
}
