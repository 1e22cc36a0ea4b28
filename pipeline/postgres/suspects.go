package postgres

import (
	"context"
	"fmt"

	"github.com/fraiseql/observer/pipeline/window"
)

// An event that ends the process each time must not end it for ever. The checkpoint counts, for each pending row, the
// starts without an outcome; handing a row out counts as a start. A row that may be the cause runs alone, with a durable
// mark, so that a crash meanwhile convicts it and no other: it is not started again but handed out as poison.

// assumedStarts is for how many of the first rows behind an unclean leader's checkpoint one start is assumed, which a
// quick end left no time to record. More would make innocent rows run alone.
const assumedStarts = 32

// suspect reports whether the next start of e could be the last one that it may have.
func (r *Reader) suspect(e *entry) bool {
	return e.prior != poisoned && int(e.prior) >= max(1, r.cfg.MaxDeliver-1)
}

// deliver makes rows ready to be handed out, in their order; it waits wherever one must run alone.
func (s *session) deliver(ctx context.Context, list []*entry) error {
	from := 0
	for i, e := range list {
		if e.prior == poisoned {
			e.msg.Metadata.Set(window.MetadataPoison, fmt.Sprintf(
				"started %d times without an outcome: the process ended while it ran, the last time by itself", s.r.cfg.MaxDeliver))
			e.msg.Metadata.Set(window.MetadataPoisonClass, "poison")
		}
		if !s.r.suspect(e) {
			continue
		}
		if err := s.offer(ctx, list[from:i]); err != nil {
			return err
		}
		if err := s.alone(ctx, e); err != nil {
			return err
		}
		from = i + 1
	}
	return s.offer(ctx, list[from:])
}

// offer puts rows where Fetch finds them. After an unclean end their start is stored first.
func (s *session) offer(ctx context.Context, list []*entry) error {
	r := s.r
	if len(list) == 0 {
		return nil
	}
	if s.mark(list) {
		if err := s.save(ctx, s.write); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range list {
		r.bytes += e.size
	}
	r.ready = append(r.ready, list...)
	r.fetchable.set()
	return nil
}

func (s *session) mark(list []*entry) bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if !s.r.careful {
		return false
	}
	for _, e := range list {
		e.counted = true
	}
	return true
}

// alone waits until nothing else runs, stores that e starts, and waits for its outcome.
func (s *session) alone(ctx context.Context, e *entry) error {
	r := s.r
	if err := s.until(ctx, func() bool { return len(r.ready) == 0 }); err != nil {
		return err
	}
	if err := s.until(ctx, func() bool { r.quiet = true; return r.running == 0 }); err != nil {
		return err
	}
	r.mu.Lock()
	e.counted, r.cursor.alone = true, e
	r.mu.Unlock()
	if err := s.save(ctx, s.write); err != nil {
		return err
	}
	r.cfg.Log.Warn("an event that may have ended the process runs alone", "event_id", e.id, "starts", e.prior+1)
	r.mu.Lock()
	r.only = e
	r.fetchable.set()
	r.mu.Unlock()
	err := s.until(ctx, func() bool { return e.state == settled || e.state == delayed })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.only, r.quiet, r.cursor.alone = nil, false, nil
	r.touch()
	r.fetchable.set()
	return err
}

// until waits for a condition, which is evaluated under mu.
func (s *session) until(ctx context.Context, condition func() bool) error {
	for {
		s.r.mu.Lock()
		met := condition()
		s.r.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.r.movable:
		}
	}
}
