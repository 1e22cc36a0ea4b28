package nats

import "sync"

// turns decides which events run at the same time: all, but for a suspect that must run alone. The drivers of one process
// share it, since a crash takes all of them.
type turns struct {
	mu      sync.Mutex // guards what follows
	running int
	only    *entry // the suspect that runs by itself
}

// begin reports whether e may run now. Then it counts as running until end.
func (t *turns) begin(e *entry, alone bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.only != nil || alone && t.running > 0 {
		return false
	}
	if alone {
		t.only = e
	}
	t.running++
	return true
}

func (t *turns) end(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.only == e {
		t.only = nil
	}
}
