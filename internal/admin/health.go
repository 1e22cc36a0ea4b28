package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Reason says why the process is not ready.
type Reason struct {
	Check string    `json:"check"`
	Error string    `json:"error"`
	Since time.Time `json:"since"`
	Fix   string    `json:"fix,omitempty"`
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

// Fail notes that a check fails; the time of its first failure stays until [Health.OK].
func (h *Health) Fail(check, err, fix string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := time.Now()
	if r, ok := h.reasons[check]; ok {
		since = r.Since
	}
	h.reasons[check] = Reason{check, err, since, fix}
}

// OK notes that a check passes.
func (h *Health) OK(check string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.reasons, check)
}

// State returns the status and the reasons against readiness; none means ready.
func (h *Health) State() (status string, reasons []Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.reasons {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b Reason) int { return cmp.Compare(a.Check, b.Check) })
	return h.status, reasons
}
