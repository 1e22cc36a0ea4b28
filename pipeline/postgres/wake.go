package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	backoffFirst = 5 * time.Millisecond
	backoffCrowd = time.Millisecond // a commit that is under way beside the one that notified ends soon
	backoffLast  = time.Second
	// pace is the pause between reads under load, from a thousand rows a second on. Reading each 2 ms cost an application
	// that shared two processors with observer a twentieth of its commits.
	pace = 10 * time.Millisecond
	// A sleeper that finds busyRows within busySpan stays awake: then a read at each pace costs less than one for each notification.
	busyRows = 100
	busySpan = 100 * time.Millisecond
	// An awake reader that finds no more than calmRows in a whole span sleeps: then a commit wakes it sooner than its next look.
	calmRows = 80
)

// sleeper decides when to read again.
type sleeper interface {
	// wait is called after a read that left nothing unread and found rows, or none. It returns when to read again.
	wait(ctx context.Context, found int) error
	// run does what has to go on in the background until ctx ends.
	run(ctx context.Context) error
	close(ctx context.Context)
}

func (s *session) newSleeper(ctx context.Context) (sleeper, error) {
	cfg := s.r.cfg.Config
	interval := time.Duration(cfg.PollIntervalSecs) * time.Second
	if s.r.proxied() {
		return &poller{interval: interval}, nil
	}
	var prepared bool
	var key int64
	err := s.read.QueryRow(ctx, `select current_setting('max_prepared_transactions') <> '0', core.fn_observer_wake_key($1)`, cfg.NotifyChannel).Scan(&prepared, &key)
	if err != nil {
		return nil, err
	}
	if prepared && !cfg.WakeForced {
		return &poller{interval: interval}, nil
	}
	w := &waker{interval: interval, key: key, read: s.read, notes: newSignal(), crowds: newSignal(), crowd: true}
	if w.gate, err = s.dial(ctx); err != nil {
		return nil, err
	}
	if w.listen, err = s.dial(ctx); err == nil {
		_, err = w.listen.Exec(ctx, "listen "+pgx.Identifier{cfg.NotifyChannel}.Sanitize())
	}
	if err != nil {
		w.close(ctx)
		return nil, err
	}
	return w, nil
}

// poller reads again after a while, the longer the longer nothing came.
type poller struct {
	interval, backoff time.Duration
}

func (p *poller) wait(ctx context.Context, found int) error {
	p.backoff = min(2*p.backoff, p.interval)
	if found > 0 || p.backoff == 0 {
		p.backoff = backoffFirst
	}
	return sleep(ctx, p.backoff)
}

func (p *poller) run(context.Context) error { return nil }
func (p *poller) close(context.Context)     {}

// waker sleeps until a commit wakes it. While it sleeps it holds an exclusive advisory lock, or waits for it; the log's
// trigger tries that lock, shared, for its transaction, and notifies when it cannot have it. So a transaction either
// notifies, or it had the lock before the sleeper: then the sleeper is granted the lock after that transaction
// ended, and reads once more. While it is queued it also reads from time to time, for those that had the lock already.
//
// Few of the transactions that cannot have it notify, since commits that notify follow each other. The others are silent, and a
// notification that says so makes the reader read from time to time until all of them have ended, and once more: see
// core.fn_observer_wake_at_commit.
type waker struct {
	listen, gate *pgx.Conn
	read         *pgx.Conn // of the goroutine that calls wait
	key          int64
	interval     time.Duration
	notes        signal // a notification came
	crowds       signal // one came that says that other transactions are silent
	crowd        bool   // silent transactions may have ended since the last read
	turn         *turn  // in the lock, or in its queue; nil while awake
	backoff      time.Duration
	spanStart    time.Time
	spanRows     int
	calm         bool // the last whole span had few rows
}

// run collects notifications.
func (w *waker) run(ctx context.Context) error {
	for {
		n, err := w.listen.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		if n.Payload == "" {
			w.notes.set()
		} else {
			w.crowds.set()
		}
	}
}

func (w *waker) wait(ctx context.Context, found int) error {
	switch {
	case w.turn == nil:
		return w.awake(ctx, found)
	case w.busy(found):
		w.turn.leave()
		if err := w.turn.result(ctx); err != nil {
			return err
		}
		w.turn, w.calm = nil, false
		return sleep(ctx, pace)
	}
	return w.asleep(ctx, found)
}

func (w *waker) awake(ctx context.Context, found int) error {
	w.count(found)
	if !w.calm {
		return sleep(ctx, pace)
	}
	w.backoff = backoffFirst
	w.turn = takeTurn(ctx, w.gate, w.key)
	return nil // read once more after enqueueing
}

func (w *waker) asleep(ctx context.Context, found int) error {
	if again, err := w.silentEnded(ctx); err != nil || again {
		return err
	}
	granted, d := w.turn.granted, w.interval
	if w.turn.held {
		granted = nil
	}
	if !w.turn.held || w.crowd {
		if found > 0 {
			w.backoff = backoffFirst
		}
		d = min(w.backoff, w.interval)
		w.backoff = min(2*w.backoff, backoffLast)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.notes:
	case <-w.crowds:
		w.crowd, w.backoff = true, backoffCrowd
	case <-granted:
		w.turn.held = true // read once more after the grant
	case <-w.turn.ended:
		err := w.turn.err
		w.turn = nil
		return err
	case <-timer.C:
	}
	return nil
}

// silentSQL reports whether a transaction holds one of the locks $1, in one look.
const silentSQL = `select exists (select from pg_locks where locktype = 'advisory' and objsubid = 1
	and database = (select oid from pg_database where datname = current_database()) and (classid::bigint << 32 | objid::bigint) = any ($1::bigint[]))`

// silentEnded reports whether every silent transaction has ended: then one more read finds what they left.
func (w *waker) silentEnded(ctx context.Context) (bool, error) {
	if !w.crowd {
		return false, nil
	}
	if err := w.read.QueryRow(ctx, silentSQL, w.crowdLocks()).Scan(&w.crowd); err != nil {
		return false, fmt.Errorf("look for silent transactions: %w", err)
	}
	return !w.crowd, nil
}

// crowdLocks are the lock of the transaction that tells of a crowd, and that of the silent ones.
func (w *waker) crowdLocks() []int64 { return []int64{w.key ^ 2, w.key ^ 3} }

// busy reports whether rows come faster than waking for each is worth.
func (w *waker) busy(found int) bool {
	w.count(found)
	return w.spanRows >= busyRows
}

func (w *waker) count(found int) {
	if now := time.Now(); now.Sub(w.spanStart) > busySpan {
		w.calm = !w.spanStart.IsZero() && w.spanRows <= calmRows
		w.spanStart, w.spanRows = now, 0
	}
	w.spanRows += found
}

func (w *waker) close(ctx context.Context) {
	if w.turn != nil {
		w.turn.leave()
		<-w.turn.ended
	}
	hangUp(ctx, w.listen, w.gate)
}

// turn is one stay in the lock and its queue.
type turn struct {
	granted chan struct{}
	held    bool // the reading goroutine knows that it was granted
	gone    context.Context
	leave   context.CancelFunc
	ended   chan struct{} // the lock is given back, or err says why not
	err     error
}

// takeTurn starts to wait for the lock. The turn ends when leave is called or the session ends.
func takeTurn(ctx context.Context, gate *pgx.Conn, key int64) *turn {
	t := &turn{granted: make(chan struct{}), ended: make(chan struct{})}
	t.gone, t.leave = context.WithCancel(ctx)
	go func() { // ended by leave, and awaited by result or close
		defer close(t.ended)
		defer t.leave()
		t.err = t.stay(ctx, gate, key)
	}()
	return t
}

func (t *turn) result(ctx context.Context) error {
	select {
	case <-t.ended:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) stay(ctx context.Context, gate *pgx.Conn, key int64) error {
	last := context.WithoutCancel(ctx) // an aborted wait would close the connection, and its backend go on waiting
	locked := make(chan error, 1)
	go func() {
		_, err := gate.Exec(last, `select pg_advisory_lock($1)`, key)
		locked <- err
	}()
	err := t.await(gate, locked)
	switch {
	case hasCode(err, codeCanceled, codeLockTimeout):
		return nil // not granted
	case err != nil:
		return fmt.Errorf("wait for wake-up lock: %w", err)
	}
	close(t.granted)
	// Nothing is listened for here: this returns when the turn is over, or at once when the connection breaks, and with it
	// the lock.
	if _, err := gate.WaitForNotification(t.gone); err != nil && t.gone.Err() == nil {
		return fmt.Errorf("hold wake-up lock: %w", err)
	}
	return unlock(last, gate, key)
}

const (
	codeCanceled  = "57014"
	cancelRetry   = 100 * time.Millisecond
	cancelPatient = 5 * time.Second
)

// await waits for the lock, and cancels the waiting on the server when the turn is over. A request to cancel that comes
// before the statement does nothing, so it is repeated.
func (t *turn) await(gate *pgx.Conn, locked <-chan error) error {
	select {
	case err := <-locked:
		return err
	case <-t.gone.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.gone), cancelPatient)
	defer cancel()
	for {
		failed := gate.PgConn().CancelRequest(ctx)
		select {
		case err := <-locked:
			return err
		case <-time.After(cancelRetry):
		}
		if ctx.Err() != nil {
			_ = gate.PgConn().Conn().Close() // the server does not answer: this ends the statement here
			return errors.Join(errors.New("cancel wait for wake-up lock: the server does not answer"), failed, <-locked)
		}
	}
}

// unlock gives the lock back. A request to cancel that came late hits it at most once for each that was sent.
func unlock(ctx context.Context, gate *pgx.Conn, key int64) error {
	ctx, cancel := context.WithTimeout(ctx, cancelPatient)
	defer cancel()
	for {
		_, err := gate.Exec(ctx, `select pg_advisory_unlock($1)`, key)
		if !hasCode(err, codeCanceled) {
			return err
		}
	}
}
