package dispatch

import "sync"

// skips counts the events that observers did not match without having been looked at. Counting them one by one would cost
// as much as looking, so lists count events, routes count how often they were looked at, and the rest was skipped.
type skips struct {
	routes []*route
	mu     sync.Mutex // one count at a time
}

// CountSkipped tells each observer's Skipped how many events more it was not looked at for. It may be called at any time;
// once Run has returned, it leaves nothing untold.
func (d *Dispatcher) CountSkipped() { d.index.skips.count() }

// count reads the events of the lists before what routes were looked at, which [Dispatcher.match] writes in the other order:
// so no event that is under way is taken for skipped, and at most some that are under way are told the next time.
func (s *skips) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.routes {
		var n int64
		for _, l := range r.lists {
			n += l.seen.Load()
		}
		n -= r.looked.Load()
		if n > r.counted && r.Skipped != nil {
			r.Skipped(n - r.counted)
			r.counted = n
		}
	}
}
