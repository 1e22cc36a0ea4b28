package postgres

import (
	"context"
	"fmt"
	"time"
)

const (
	// patience is how long a statement of the reader may take before Stats says that the server does not answer.
	patience = 5 * time.Second
	// statementLimit ends a statement whose connection may be dead without anybody having said so.
	statementLimit = 2 * time.Minute
)

// unreadProbe bounds how many unread rows are counted; beyond it their number is estimated from the primary keys.
const unreadProbe = 10_000

// Stats is what a reader knows about its progress.
type Stats struct {
	Backlog   int64         // unread rows, estimated beyond 10,000, and rows that were read and are not settled
	OldestAge time.Duration // since the change that the oldest unsettled row tells of; 0 without one
	Err       error         // why nothing is read now; nil while a session is up
}

// health is what Stats tells, and what measuring it needs.
type health struct {
	err      error
	unread   int64
	lastPK   int64 // the last row that was read
	caughtUp bool  // the last probe left nothing unread
	// Since when a statement runs on each of the session's connections; zero while none does.
	reading, writing time.Time
}

// asking notes in at, a field of health, that a statement runs until done is called, and bounds it.
func (r *Reader) asking(ctx context.Context, at *time.Time) (limited context.Context, done func()) {
	r.mu.Lock()
	*at = time.Now()
	r.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, statementLimit)
	return limited, func() {
		cancel()
		r.mu.Lock()
		*at = time.Time{}
		r.mu.Unlock()
	}
}

// silent says that a statement has run for long.
func (h *health) silent() error {
	for what, since := range map[string]time.Time{"reading": h.reading, "storing the checkpoint": h.writing} {
		if took := time.Since(since); !since.IsZero() && took > patience {
			return fmt.Errorf("%s: the server has not answered for %s: look for locks on our tables, or a connection that is cut", what, took.Round(time.Second))
		}
	}
	return nil
}

func (h *health) recovered() { h.err = nil }

func (h *health) failed(err error) {
	h.err, h.caughtUp = err, false
}

// Stats returns the reader's progress without asking the server.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Backlog: int64(r.cursor.pending), Err: r.health.err}
	if !r.live {
		s.Backlog = int64(len(r.known))
	}
	if !r.health.caughtUp {
		s.Backlog += r.health.unread
	}
	if silent := r.health.silent(); s.Err == nil {
		s.Err = silent
	}
	if r.fatal != nil {
		s.Err = r.fatal
	}
	for e := r.cursor.first; e != nil; e = e.next {
		if !e.at.IsZero() {
			s.OldestAge = max(time.Since(e.at), 0)
			break
		}
	}
	return s
}

// measure estimates what is unread while the reader has not caught up.
func (s *session) measure(ctx context.Context) error {
	r := s.r
	r.mu.Lock()
	at, floor, last, caughtUp := r.cursor.position, r.cursor.floor, r.health.lastPK, r.health.caughtUp
	r.mu.Unlock()
	if at.to != "" {
		last = max(at.upTo, floor-1)
	}
	if caughtUp || last == 0 {
		return nil
	}
	s.r.storing.Lock()
	defer s.r.storing.Unlock()
	var count, newest int64
	if err := s.write.QueryRow(ctx, r.sql.unread, last, at.from.closed(), unreadProbe).Scan(&count, &newest); err != nil {
		return err
	}
	if count >= unreadProbe {
		count = max(count, newest-last)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health.unread = count
	return nil
}
