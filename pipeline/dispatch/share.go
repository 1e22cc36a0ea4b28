package dispatch

import "sync"

// waitingLimit is how many deliveries wait in memory for one endpoint; what comes beyond them is spilled.
const waitingLimit = 64

// share is the part of the slots that one endpoint uses. Where there are several, each may have at most twice as many as
// are free (the dynamic threshold by which switches share a buffer: Choudhury and Hahne, 1998): one that hangs gets two
// thirds of them, three that hang leave a seventh, and there is always room for those that work.
type share struct {
	unlimited bool // nobody else is there

	mu      sync.Mutex // guards what follows
	running int
	waiting []*job // in the order in which they came
}

// enter reports whether j may ask for a slot now. Else it waits and is started later, unless too many wait already.
func (s *share) enter(j *job, free int) (entered, waits bool) {
	if s == nil || s.unlimited {
		return true, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.room(free) && len(s.waiting) == 0:
		s.running++
		return true, false
	case len(s.waiting) < waitingLimit || j.parked:
		s.waiting = append(s.waiting, j)
		return false, true
	}
	return false, false
}

// room: one runs in any case, so that what waits is always started by one that ends.
func (s *share) room(free int) bool { return s.running < max(1, 2*free) }

// leave ends the turn of one delivery and returns those whose turn it is now.
func (s *share) leave(free int) (next []*job) {
	if s == nil || s.unlimited {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	for len(s.waiting) > 0 && s.room(free) {
		s.running++
		next = append(next, s.waiting[0])
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
	return next
}

// full reports whether enough waits already: what is parked had better stay there.
func (s *share) full() bool {
	if s == nil || s.unlimited {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) >= waitingLimit/2
}
