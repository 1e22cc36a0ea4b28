package window

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// flight is one message in flight of a direct subscription, and its context: the living one of its subscription, and the
// values that the driver attached.
type flight struct {
	context.Context
	attached context.Context
	sub      *subscription
	item     Item

	settled    bool // guarded by the subscription's mutex, as are the links
	prev, next *flight
}

type flightKey struct{}

// Value implements context.Context.
func (f *flight) Value(key any) any {
	if key == (flightKey{}) {
		return f
	}
	if v := f.attached.Value(key); v != nil {
		return v
	}
	return f.Context.Value(key)
}

func flightOf(ctx context.Context) *flight {
	f, _ := ctx.Value(flightKey{}).(*flight)
	return f
}

// IsDirect reports whether the message of a context came through a direct subscription, see [Config]. All such messages of
// one subscription end at the same moment.
func IsDirect(ctx context.Context) bool { return flightOf(ctx) != nil }

// Settle acks (ok) or nacks a message whether it came through a direct subscription or not. ctx is the context with which it
// came, or one derived from it. The second call for one message does nothing.
func Settle(ctx context.Context, msg *message.Message, ok bool) {
	f := flightOf(ctx)
	switch {
	case f == nil && ok:
		msg.Ack()
	case f == nil:
		msg.Nack()
	case f.sub.land(f):
		if ok {
			f.sub.acks <- f.item
			return
		}
		go f.sub.nacked(f.item) // counted as in flight until the driver has it
	}
}

// launch notes that f is in flight.
func (s *subscription) launch(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.next = s.open
	if f.next != nil {
		f.next.prev = f
	}
	s.open = f
}

// land reports whether f was still to be settled.
func (s *subscription) land(f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.settled {
		return false
	}
	f.settled = true
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		s.open = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	return true
}

// recall gives back what nobody has settled: its handlers ignored that their time was up.
func (s *subscription) recall() {
	for {
		s.mu.Lock()
		f := s.open
		s.mu.Unlock()
		if f == nil {
			return
		}
		if s.land(f) {
			s.giveBack(f.item, 0)
		}
	}
}
