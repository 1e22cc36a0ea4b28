package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/fraiseql/observer/pipeline/window"
)

// An event that ends the process each time must not end it for ever. The checkpoint counts, for each pending row, the
// starts without an outcome. A row that may be the cause runs alone, with a durable mark, so that a crash meanwhile
// convicts it and no other: it is not started again but handed out as poison.

const (
	// assumedStarts is for how many of the first rows without a start one is assumed after an unclean end, which a quick
	// one left no time to record. More would make innocent rows run alone.
	assumedStarts = 64
	// carefulRows is how many rows are out at the same time while each start is stored beforehand: all of them count as
	// started when the process ends then.
	carefulRows = 128
)

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

// offer puts rows where Fetch finds them. After an unclean end their start is stored first, a few rows at a time.
func (s *session) offer(ctx context.Context, list []*entry) error {
	r := s.r
	r.mu.Lock()
	careful := r.careful
	r.mu.Unlock()
	if !careful {
		r.publish(list)
		return nil
	}
	for some := range slices.Chunk(list, carefulRows/2) {
		if err := s.until(ctx, func() bool { return len(r.ready)+r.running <= carefulRows/2 }); err != nil {
			return err
		}
		r.mu.Lock()
		for _, e := range some {
			e.counted = true
		}
		r.mu.Unlock()
		if err := s.save(ctx, s.write); err != nil {
			return err
		}
		r.publish(some)
	}
	return nil
}

func (r *Reader) publish(list []*entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range list {
		r.bytes += e.size
	}
	r.ready = append(r.ready, list...)
	r.fetchable.set()
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
