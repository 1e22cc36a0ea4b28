package dispatch

import (
	"slices"
	"sync"
	"time"
)

const (
	// waitingLimit is how many deliveries wait in memory for one endpoint. What comes beyond them holds the sources back
	// while the endpoint works, and is spilled when it does not.
	waitingLimit = 64
	// slowRun is how long a delivery runs to an endpoint that holds nobody back, and progress how long none begins or ends at one.
	slowRun  = time.Second
	progress = 100 * time.Millisecond
)

// shares are the parts of the slots that endpoints use. Where there are several, each may have at most twice as many as are
// free (the dynamic threshold by which switches share a buffer: Choudhury and Hahne, 1998): one that hangs gets two thirds
// of them, three that hang leave a seventh, and there is always room for those that work.
type shares struct {
	slots     int
	unlimited bool // there is one endpoint at most

	mu      sync.Mutex // guards what follows, and every share
	taken   int        // slots: events of which deliveries run, or wait for one
	waiting []*share   // where deliveries wait, and some where none do any more
	turn    int        // who of waiting is asked next
}

// share is the part of one endpoint.
type share struct {
	running int       // deliveries that have a slot, or wait for one
	waiting []*job    // for their turn, in the order in which they came
	listed  bool      // among those where deliveries wait
	begun   int       // deliveries that have a slot
	moved   time.Time // when the last one got its slot, or ended
	slow    bool      // the last one that ended was, or nothing moved for a while
	left    signal    // one ended, or waits no more; somebody waits for that
}

type signal chan struct{}

// enter reports whether j may ask for a slot now. Else it waits and is started later, unless too many wait already: then it
// has to be spilled.
func (s *shares) enter(j *job) (entered, waits bool) {
	if s.unlimited {
		return true, false
	}
	for {
		entered, waits, left := s.try(j)
		if left == nil {
			return entered, waits
		}
		timer := time.NewTimer(progress)
		select {
		case <-left:
		case <-timer.C:
			s.judge(j.action.share)
		}
		timer.Stop()
	}
}

// try is enter without waiting for the endpoint, which makes sense while left is not nil.
func (s *shares) try(j *job) (entered, waits bool, left signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := j.action.share
	switch {
	case e == nil, len(e.waiting) == 0 && s.room(e):
		s.admit(j)
		return true, false, nil
	case len(e.waiting) < waitingLimit || j.parked:
		e.waiting = append(e.waiting, j)
		if !e.listed {
			e.listed = true
			s.waiting = append(s.waiting, e)
		}
		return false, true, nil
	case e.slow:
		return false, false, nil
	}
	if e.left == nil {
		e.left = make(signal)
	}
	return false, false, e.left
}

// judge calls an endpoint slow at which nothing moves. One that only waits for slots, which others have, is not.
func (s *shares) judge(e *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.begun > 0 && time.Since(e.moved) >= progress {
		e.slow = true
	}
}

// free is how many slots nobody has or is about to have.
func (s *shares) free() int { return s.slots - s.taken }

// room: one runs in any case.
func (s *shares) room(e *share) bool { return e.running < max(1, 2*s.free()) }

func (s *shares) admit(j *job) {
	if j.action.share != nil {
		j.action.share.running++
	}
	if j.work.entered++; j.work.entered == 1 {
		s.taken++
	}
}

// acquired notes that j, which has entered, got its slot.
func (s *shares) acquired(j *job) {
	e := j.action.share
	if s.unlimited || e == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j.began = time.Now()
	e.begun++
	e.moved = j.began
}

// leave ends the turn of one delivery and returns those whose turn it is now.
func (s *shares) leave(j *job) (next []*job) {
	if s.unlimited {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.work.entered--; j.work.entered == 0 {
		s.taken--
	}
	e := j.action.share
	if e != nil {
		e.end(j)
	}
	return s.turns(e)
}

func (e *share) end(j *job) {
	e.running--
	e.tell()
	if j.began.IsZero() {
		return // it got no slot
	}
	e.begun--
	e.moved = time.Now()
	e.slow = e.moved.Sub(j.began) > slowRun
	j.began = time.Time{}
}

// tell wakes those that wait for e.left.
func (e *share) tell() {
	if e.left != nil {
		close(e.left)
		e.left = nil
	}
}

// turns takes from where deliveries wait for as long as there is room, from one endpoint after the other. At own one has just
// ended.
func (s *shares) turns(own *share) (next []*job) {
	if s.free() <= 0 { // each of the others has its one
		if own != nil && len(own.waiting) > 0 && s.room(own) {
			next = append(next, s.first(own))
		}
		return next
	}
	for asked := 0; asked < len(s.waiting); {
		s.turn %= len(s.waiting)
		switch e := s.waiting[s.turn]; {
		case len(e.waiting) == 0:
			e.listed = false
			s.waiting = slices.Delete(s.waiting, s.turn, s.turn+1)
		case s.room(e):
			next = append(next, s.first(e))
			asked = 0
			s.turn++
		default:
			asked++
			s.turn++
		}
	}
	return next
}

// first admits the delivery that has waited longest.
func (s *shares) first(e *share) *job {
	j := e.waiting[0]
	e.waiting[0] = nil
	if e.waiting = e.waiting[1:]; len(e.waiting) == 0 {
		e.waiting = nil
	}
	e.tell()
	s.admit(j)
	return j
}

// full reports whether enough waits already: what is parked had better stay there.
func (s *shares) full(e *share) bool {
	if s.unlimited || e == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(e.waiting) >= waitingLimit/2
}
