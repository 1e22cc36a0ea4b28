package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	storePause  = 50 * time.Millisecond // between two writes of the checkpoint, which leaves each 50 ms of the promised 100
	retryFirst  = 100 * time.Millisecond
	retryLast   = 2 * time.Second
	measureTick = time.Second
	filterTick  = 5 * time.Second // how often a reader of one topic stores that it passed others
)

// readingSettings are for the connection that reads. A probe takes a tenth of a millisecond, its plan half a one: the same
// one does for all snapshots. It is made while the log may be short, and must do when it is long.
const readingSettings = `set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off`

// session is one stretch of reading over connections that stand throughout. One goroutine reads, one stores.
type session struct {
	r       *Reader
	read    *pgx.Conn
	write   *pgx.Conn // guarded by Reader.storing
	decoder *decoder
	sleeper sleeper
	limit   int  // rows of the next page
	fresh   bool // the window under way was opened by this session
	passed  time.Time
}

// run keeps a session up until the reader is closed or a person must act.
func (r *Reader) run(ctx context.Context) {
	defer close(r.done)
	for wait := retryFirst; ; {
		begun := time.Now()
		err := r.session(ctx)
		r.detach(err)
		if time.Since(begun) > retryLast {
			wait = retryFirst
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, errReaderClosed):
			return
		case errors.Is(err, errMoved):
			continue
		case IsFatal(err) || errors.Is(err, ErrDeposed):
			r.fail(wrap("read change log", err))
			return
		case r.finished():
			return
		}
		r.trouble.Failed(Diagnose(err))
		_ = sleep(ctx, wait) // the next session sees that ctx has ended
		wait = min(2*wait, retryLast)
	}
}

func (r *Reader) session(ctx context.Context) error {
	s := &session{r: r, decoder: newDecoder(r.cfg.Source), limit: r.batch}
	defer s.close(ctx)
	if err := s.open(ctx); err != nil {
		return err
	}
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	r.attach(c)
	r.trouble.OK()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx) })
	group.Go(func() error { return s.persist(ctx) })
	group.Go(func() error { return s.sleeper.run(ctx) })
	group.Go(func() error {
		select {
		case <-r.lease.Lost():
			return ErrDeposed
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

// open makes every connection before the first snapshot is taken: as long as they stand, Postgres has not crashed since.
func (s *session) open(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if s.read, err = s.dial(ctx); err != nil {
		return err
	}
	if !s.r.proxied() {
		if _, err = s.read.Exec(ctx, readingSettings); err != nil {
			return err
		}
	}
	if s.write, err = s.dial(ctx); err != nil {
		return err
	}
	s.sleeper, err = s.newSleeper(ctx)
	return err
}

func (s *session) dial(ctx context.Context) (*pgx.Conn, error) {
	return dial(ctx, s.r.cfg.Pool, s.r.lease.owner, s.r.proxied())
}

func (r *Reader) proxied() bool { return r.cfg.Config.Wake == wakePoll }

func (s *session) close(ctx context.Context) {
	if s.sleeper != nil {
		s.sleeper.close(ctx)
	}
	hangUp(ctx, s.read, s.write)
}

// follow reads: first what the last process left, then window by window.
func (s *session) follow(ctx context.Context) error {
	if err := s.resume(ctx); err != nil {
		return fmt.Errorf("read pending events: %w", err)
	}
	for {
		if err := s.until(ctx, s.r.hasSpace); err != nil {
			return err
		}
		found, err := s.step(ctx)
		if err != nil {
			return fmt.Errorf("read change log: %w", err)
		}
		if s.caughtUp() {
			if err := s.sleeper.wait(ctx, found); err != nil {
				return err
			}
		}
	}
}

// hasSpace reports whether another page may be read. The caller holds mu.
func (r *Reader) hasSpace() bool {
	return len(r.ready) < r.batch && r.bytes < pageMemory && !r.held.full()
}

// caughtUp reports whether no window is under way. Once that holds for one of this session, everything that a process
// before it may have started has been read, and its start is stored where that matters.
func (s *session) caughtUp() bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	done := s.r.cursor.to == ""
	if s.r.health.caughtUp = done && s.fresh; s.r.health.caughtUp {
		s.r.careful = false
	}
	return done
}

// resume reads the pending rows of the stored checkpoint.
func (s *session) resume(ctx context.Context) error {
	old, pks := s.pending()
	for last := int64(-1); len(pks) > 0; {
		if err := s.until(ctx, s.r.hasSpace); err != nil {
			return err
		}
		p, err := s.query(ctx, s.read, s.r.sql.of(s.limit).pending, pks, last)
		if err != nil {
			return err
		}
		var list []*entry
		s.r.mu.Lock()
		for _, row := range p.rows {
			last = row.pk
			if e := s.r.adopt(row, old[row.pk]); e != nil {
				list = append(list, e)
			}
			delete(old, row.pk)
		}
		s.r.mu.Unlock()
		if err := s.deliver(ctx, list); err != nil {
			return err
		}
		whole := !p.cut && p.total < s.limit
		if s.adapt(p); whole {
			break
		}
	}
	s.missing(old)
	return nil
}

func (s *session) pending() (map[int64]*entry, []int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	old := make(map[int64]*entry, s.r.cursor.pending)
	for e := s.r.cursor.first; e != nil; e = e.next {
		old[e.pk] = e
	}
	return old, s.r.cursor.image(false).pending
}

// missing drops what is pending but no longer in the log.
func (s *session) missing(old map[int64]*entry) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for pk, e := range old {
		s.r.cfg.Log.Warn("a pending event is no longer in the change log", slog.Int64("pk_entity_change_log", pk))
		s.r.cursor.remove(e)
		s.r.touch()
	}
}

// step reads one page and makes it ready. It returns how many rows it found.
func (s *session) step(ctx context.Context) (int, error) {
	s.r.mu.Lock()
	at, floor := s.r.cursor.position, s.r.cursor.floor
	s.r.mu.Unlock()
	if at.to == "" {
		return s.probe(ctx, at)
	}
	if floor == 0 {
		if err := s.findFloor(ctx, at); err != nil {
			return 0, err
		}
	}
	return s.page(ctx, at)
}

// reads is what queries go through: the connection that reads, or a transaction on it.
type reads interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func (s *session) query(ctx context.Context, db reads, sql string, args ...any) (p page, err error) {
	ctx, answered := s.r.asking(ctx, &s.r.health.reading)
	defer answered()
	if s.r.proxied() { // there everything comes as text, and formats cannot be asked for
		err = s.guarded(ctx, db, func(rows pgx.Rows) error {
			p, err = s.decoder.read(rows, s.limit)
			return err
		}, sql, args...)
		return p, err
	}
	rows, err := db.Query(ctx, sql, append([]any{asText}, args...)...)
	if err != nil {
		return page{}, err
	}
	return s.decoder.read(rows, s.limit)
}

// guarded is for queries behind a proxy, where the next transaction may find itself on another server. A batch is one
// transaction, and tells first in which database.
func (s *session) guarded(ctx context.Context, db reads, read func(pgx.Rows) error, sql string, args ...any) error {
	var b pgx.Batch
	b.Queue(`select ` + hereColumns + ` from ` + here).QueryRow(func(row pgx.Row) error {
		var now identity
		if err := row.Scan(now.targets()...); err != nil {
			return err
		}
		return s.r.lease.pin.accept(now)
	})
	b.Queue(sql, args...).Query(read)
	return db.SendBatch(ctx, &b).Close()
}

// advance moves the position over the rows of p and makes them pending. It returns those to hand out.
func (s *session) advance(p page, to position, floor int64) []*entry {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor.position, r.cursor.floor = to, floor
	var list []*entry
	for _, row := range p.rows {
		if e := r.adopt(row, nil); e != nil {
			list = append(list, e)
		}
		r.health.lastPK = max(r.health.lastPK, row.pk)
	}
	if len(p.rows) > 0 || to.to != "" {
		r.touch()
	}
	if to.to == "" && s.fresh {
		r.passed()
	}
	return list
}

// adapt shortens the next page when rows are so large that reading past the rest costs more than another query.
func (s *session) adapt(p page) {
	switch {
	case !p.cut:
		s.limit = min(s.r.batch, 2*s.limit)
	case len(p.rows) == 0:
		s.limit = 1
	default:
		s.limit = max(1, s.limit/8)
	}
}
