package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/step"
)

// persist stores the checkpoint soon after each change, and a last time when the reader closes.
func (s *session) persist(ctx context.Context) error {
	measure := time.NewTicker(measureTick)
	defer measure.Stop()
	for stored := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-measure.C:
			if err := s.measure(ctx); err != nil {
				return err
			}
			continue
		case <-s.r.changed:
		}
		if err := sleep(ctx, storePause-time.Since(stored)); err != nil {
			return err
		}
		stored = time.Now()
		closing, complete := s.r.ending()
		if closing && complete {
			return s.saveLast(ctx)
		}
		step.At(step.BeforeCheckpoint, "")
		if err := s.save(ctx, s.write); err != nil {
			return err
		}
		if closing { // look again soon
			s.r.changed.set()
		}
	}
}

// ending reports whether the reader is to be closed, and whether this session knows all that settled: after an outage it
// has to read first what it is going to store as settled.
func (r *Reader) ending() (closing, complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing, !r.unsettled() || !r.hasSpace()
}

// save stores the checkpoint of this moment.
func (s *session) save(ctx context.Context, db execer) error {
	s.r.storing.Lock()
	defer s.r.storing.Unlock()
	n, err := s.saveImage(ctx, db, false)
	if err == nil {
		s.r.confirm(n)
	}
	return err
}

// saveInTx stores the checkpoint of this moment and commits. The caller holds storing.
func (s *session) saveInTx(ctx context.Context, tx pgx.Tx) error {
	n, err := s.saveImage(ctx, tx, false)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	s.r.confirm(n)
	return nil
}

// saveLast stores what a clean end leaves: nothing counts as started.
func (s *session) saveLast(ctx context.Context) error {
	s.r.storing.Lock()
	defer s.r.storing.Unlock()
	n, err := s.saveImage(ctx, s.write, true)
	if err != nil {
		return err
	}
	s.r.confirm(n)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.final = true
	return errReaderClosed
}

// saveImage returns how many of the recently settled events the stored image knows. The caller holds storing.
func (s *session) saveImage(ctx context.Context, db execer, clean bool) (int, error) {
	r := s.r
	r.mu.Lock()
	if r.final {
		r.mu.Unlock()
		return 0, errReaderClosed
	}
	img, epoch, n := r.cursor.image(clean), r.cursor.epoch, len(r.recent)
	r.mu.Unlock()
	return n, r.store(ctx, db, img, epoch)
}

func (r *Reader) confirm(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent = r.recent[n:]
	if len(r.recent) == 0 {
		r.recent = nil
	}
}
