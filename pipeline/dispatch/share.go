package dispatch

import (
	"sync"
	"time"
)

const (
	// waitingLimit is how many deliveries wait in memory for one endpoint. What comes beyond them holds the sources back
	// while the endpoint works, and is spilled when it does not.
	waitingLimit = 64
	// slowRun is how long a delivery runs to an endpoint that holds nobody back, and progress how long none ends at one.
	slowRun  = time.Second
	progress = 100 * time.Millisecond
)

// share is the part of the slots that one endpoint uses. Where there are several, each may have at most twice as many as
// are free (the dynamic threshold by which switches share a buffer: Choudhury and Hahne, 1998): one that hangs gets two
// thirds of them, three that hang leave a seventh, and there is always room for those that work.
type share struct {
	unlimited bool // nobody else is there

	mu      sync.Mutex // guards what follows
	running int
	waiting []*job // in the order in which they came
	slow    bool   // the last one that ended was, or none ended for a while
	left    signal // one ended; somebody waits for that
}

type signal chan struct{}

// enter reports whether j may ask for a slot now. Else it waits and is started later, unless too many wait already: then it
// has to be spilled.
func (s *share) enter(j *job, free func() int) (entered, waits bool) {
	for {
		entered, waits, left := s.try(j, free())
		if entered || waits || left == nil {
			return entered, waits
		}
		timer := time.NewTimer(progress)
		select {
		case <-left:
		case <-timer.C:
			s.mu.Lock()
			s.slow = true
			s.mu.Unlock()
		}
		timer.Stop()
	}
}

// try is enter without waiting for the endpoint, which makes sense while left is not nil.
func (s *share) try(j *job, free int) (entered, waits bool, left signal) {
	if s == nil || s.unlimited {
		return true, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.room(free) && len(s.waiting) == 0:
		s.running++
		j.entered = time.Now()
		return true, false, nil
	case len(s.waiting) < waitingLimit || j.parked:
		s.waiting = append(s.waiting, j)
		return false, true, nil
	case s.slow:
		return false, false, nil
	}
	if s.left == nil {
		s.left = make(signal)
	}
	return false, false, s.left
}

// room: one runs in any case, so that what waits is always started by one that ends.
func (s *share) room(free int) bool { return s.running < max(1, 2*free) }

// leave ends the turn of one delivery and returns those whose turn it is now.
func (s *share) leave(j *job, free int) (next []*job) {
	if s == nil || s.unlimited {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	now := time.Now()
	s.slow = now.Sub(j.entered) > slowRun
	if s.left != nil {
		close(s.left)
		s.left = nil
	}
	for len(s.waiting) > 0 && s.room(free) {
		s.running++
		s.waiting[0].entered = now
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
