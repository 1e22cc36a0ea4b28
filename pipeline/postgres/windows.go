package postgres

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// probe opens the next window: it takes a snapshot and, in the same statement, the rows that it sees and the last one
// did not. When they are few, that is the whole window.
func (s *session) probe(ctx context.Context, at position) (int, error) {
	s.fresh = true
	if s.r.proxied() {
		return s.probeStored(ctx, at)
	}
	p, err := s.query(ctx, s.read, s.r.sql.of(s.limit).probe, s.probeArgs(at)...)
	if err != nil {
		return 0, err
	}
	list, err := s.opened(at, p, s.overdue())
	if err != nil {
		return 0, err
	}
	return len(p.rows), s.deliver(ctx, list)
}

// probeStored stores the new snapshot in the transaction that took it. Behind a proxy a crash of Postgres goes unnoticed
// between two statements, and a snapshot from before it must never be stored after it.
func (s *session) probeStored(ctx context.Context, at position) (int, error) {
	tx, err := s.read.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing after Commit; nothing was written
	p, err := s.query(ctx, tx, s.r.sql.of(s.limit).probe, s.probeArgs(at)...)
	if err != nil {
		return 0, err
	}
	if p.total == 0 && !s.overdue() {
		_, err = s.opened(at, p, false)
		return 0, err
	}
	s.r.storing.Lock()
	list, err := s.opened(at, p, true)
	if err == nil {
		err = s.saveInTx(ctx, tx)
	}
	s.r.storing.Unlock()
	if err != nil {
		return 0, err
	}
	return len(p.rows), s.deliver(ctx, list)
}

func (s *session) probeArgs(at position) []any {
	return []any{at.from.edge(), at.from.running(), s.r.cfg.Name}
}

// opened moves the position over what a probe found. A probe that found nothing changes nothing that need be stored.
func (s *session) opened(at position, p page, store bool) ([]*entry, error) {
	switch {
	case p.snapshot == "":
		return nil, errors.New("the probe returned no snapshot")
	case p.epoch == nil || *p.epoch != s.r.epoch():
		return nil, errMoved
	case p.total > s.limit: // too many to sort: walk the primary key
		p.rows = nil
		return s.advance(p, position{from: at.from, to: p.snapshot}, 0), nil
	case p.cut:
		list := s.advance(p, position{from: at.from, to: p.snapshot, upTo: p.last(0)}, 0)
		s.adapt(p)
		return list, nil
	case p.total == 0 && s.r.proxied() && !store:
		s.r.mu.Lock()
		s.r.passed()
		s.r.mu.Unlock()
		return nil, nil
	}
	list := s.advance(p, position{from: p.snapshot}, 0)
	if store {
		s.passed = time.Now()
		s.r.mu.Lock()
		s.r.touch()
		s.r.mu.Unlock()
	}
	s.adapt(p)
	return list, nil
}

// overdue reports whether a reader of one topic should store that it has passed rows of others.
func (s *session) overdue() bool {
	return s.r.cfg.Topic != allTopics && time.Since(s.passed) > filterTick
}

func (r *Reader) epoch() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor.epoch
}

// findFloor finds once per window where the walk along the primary key starts.
func (s *session) findFloor(ctx context.Context, at position) error {
	var first *int64
	ctx, answered := s.r.asking(ctx, &s.r.health.reading)
	defer answered()
	err := s.guarded(ctx, s.read, func(rows pgx.Rows) (err error) {
		first, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[*int64])
		return err
	}, floorSQL(at.from.edge()))
	if err != nil {
		return err
	}
	floor := int64(math.MaxInt64)
	if first != nil {
		floor = max(*first, 1)
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.cursor.floor = floor
	return nil
}

// page reads the next page of the window under way.
func (s *session) page(ctx context.Context, at position) (int, error) {
	s.r.mu.Lock()
	floor := s.r.cursor.floor
	s.r.mu.Unlock()
	limit := s.limit
	p, err := s.query(ctx, s.read, s.r.sql.of(limit).page, at.from.closed(), at.from.running(), at.upTo, string(at.to), floor)
	if err != nil {
		return 0, err
	}
	next := position{from: at.to}
	if p.cut || p.total >= limit {
		next = position{from: at.from, to: at.to, upTo: p.last(at.upTo)}
	} else {
		floor = 0
	}
	list := s.advance(p, next, floor)
	s.adapt(p)
	return len(p.rows), s.deliver(ctx, list)
}
