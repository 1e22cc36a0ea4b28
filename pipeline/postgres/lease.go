package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/internal/lease"
	"github.com/fraiseql/observer/internal/outage"
)

const (
	leaseTTL   = lease.TTL
	leaseRenew = lease.Renew
	leaseRetry = lease.Retry // also the longest pause between a standby's looks
)

// LeaseConfig describes a [Lease].
type LeaseConfig struct {
	Pool   *pgxpool.Pool // for its address and credentials: the lease has a connection of its own
	Config Config
	// Name of the lease row: of all processes with one name, one leads.
	Name string
	// StartFrom, when set (now, beginning or an RFC 3339 time), makes the very first leader create the checkpoint row of
	// this name in the transaction that creates the lease row, so that a crash right after cannot turn a first start
	// into a missing checkpoint.
	StartFrom string
	// Standby, when set, is called once Acquire has found that another process leads.
	Standby func()
	Log     *slog.Logger
}

// Lease is the leadership of one name: a row with owner, generation and expiry by the server's clock.
type Lease struct {
	cfg        LeaseConfig
	owner      string
	generation int64
	unclean    bool
	first      bool
	pin        pin // the database that it was taken in

	trust    *lease.Trust
	lost     chan struct{}
	suspend  atomic.Bool // tests stop the renewals, as SIGSTOP does
	conn     *pgx.Conn   // used by Acquire, then by the renewing goroutine, then by Release
	stop     context.CancelFunc
	stopped  chan struct{}
	released sync.Once
}

// Acquire waits as a hot standby until the lease is free, released or expired, and takes it under a new generation. It
// ends the sessions of an owner that did not release. It returns early when ctx ends or when a person must act, such as in a
// copy of the database ([ErrWrongCluster]), which has a copy of the lease.
func Acquire(ctx context.Context, cfg LeaseConfig) (*Lease, error) {
	trouble := outage.New(cfg.Log, "cannot acquire lease", "lease can be asked for again", slog.String("lease", cfg.Name))
	l := &Lease{cfg: cfg, owner: newOwner(cfg.Name), trust: lease.NewTrust(), lost: make(chan struct{}), stopped: make(chan struct{})}
	standby := false
	for {
		wait, err := l.try(ctx)
		switch {
		case ctx.Err() != nil || IsFatal(err):
			l.hangUp(ctx)
			return nil, wrap("acquire lease", errors.Join(ctx.Err(), err))
		case err != nil:
			trouble.Failed(err)
			wait = 4 * leaseRetry
		case wait == 0:
			l.start(ctx)
			return l, nil
		case !standby:
			standby = true
			cfg.Log.Info("standing by: another process leads", slog.String("lease", cfg.Name))
			if cfg.Standby != nil {
				cfg.Standby()
			}
		}
		_ = sleep(ctx, wait) // the next turn sees that ctx has ended
	}
}

func (l *Lease) start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { // ended by Release
		defer close(l.stopped)
		l.keep(ctx)
	}()
}

// try returns 0 when it took the lease, else for how long to wait before the next try.
func (l *Lease) try(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	if err := l.call(ctx); err != nil {
		return 0, err
	}
	if _, err := recognise(ctx, l.conn, l.cfg.Name); err != nil {
		return 0, err
	}
	row, err := readLease(ctx, l.conn, l.cfg.Name, "")
	if err == nil && row.taken() {
		return row.wait(), nil
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, err
	}
	sent := time.Now()
	wait, previous, err := l.take(ctx)
	if err != nil || wait > 0 {
		return wait, err
	}
	l.trust.Renewed(sent)
	if previous != nil {
		l.unclean = true
		l.end(ctx, *previous)
	}
	return 0, nil
}

// take locks the row and makes it ours unless another was faster.
func (l *Lease) take(ctx context.Context) (wait time.Duration, previous *string, err error) {
	tx, err := l.conn.Begin(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing after Commit
	tag, err := tx.Exec(ctx, `insert into core.tb_observer_lease (name) values ($1) on conflict do nothing`, l.cfg.Name)
	if err != nil {
		return 0, nil, err
	}
	l.first = tag.RowsAffected() == 1
	row, err := readLease(ctx, tx, l.cfg.Name, "for update")
	if err != nil || row.taken() {
		return row.wait(), nil, err
	}
	now, err := admit(ctx, tx, l.cfg.Name)
	if err == nil {
		err = l.pin.accept(now)
	}
	if err != nil {
		return 0, nil, err
	}
	if l.first && l.cfg.StartFrom != "" {
		if err := createCheckpoint(ctx, tx, l.cfg.Name, l.cfg.StartFrom); err != nil {
			return 0, nil, err
		}
	}
	l.generation = row.generation + 1
	_, err = tx.Exec(ctx, `update core.tb_observer_lease
		set owner = $2, generation = $3, expires_at = clock_timestamp() + make_interval(secs => $4) where name = $1`,
		l.cfg.Name, l.owner, l.generation, leaseTTL.Seconds())
	if err != nil {
		return 0, nil, err
	}
	return 0, row.owner, tx.Commit(ctx)
}

// end terminates what is left of a previous owner's sessions, so that none of them holds a lock for ever. Its writes are
// refused by the generation in any case.
func (l *Lease) end(ctx context.Context, owner string) {
	l.cfg.Log.Warn("took over: the previous leader did not release", slog.String("lease", l.cfg.Name), slog.Int64("generation", l.generation))
	if l.proxied() {
		return
	}
	_, err := l.conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()`, owner)
	if err != nil {
		l.cfg.Log.Warn("cannot end the previous leader's sessions", slog.Any("error", err))
	}
}

func (l *Lease) keep(ctx context.Context) {
	trouble := outage.New(l.cfg.Log, "cannot renew lease", "lease renewed again", slog.String("lease", l.cfg.Name))
	for pause := leaseRenew; ; {
		if sleep(ctx, pause) != nil {
			return
		}
		if l.suspend.Load() {
			continue
		}
		err := l.renew(ctx)
		if errors.Is(err, ErrDeposed) || errors.Is(err, ErrWrongCluster) {
			l.trust.End()
			close(l.lost)
			l.cfg.Log.Error("lease lost", slog.String("lease", l.cfg.Name), slog.Any("error", Diagnose(err)))
			return
		}
		pause = leaseRenew
		switch {
		case err == nil:
			trouble.OK()
		case ctx.Err() == nil:
			trouble.Failed(err)
			l.hangUp(ctx)
			pause = leaseRetry
		}
	}
}

const renewSQL = `update core.tb_observer_lease set expires_at = clock_timestamp() + make_interval(secs => $4)
	where name = $1 and owner = $2 and generation = $3
	  and not exists (select from public.tb_observer_checkpoint c, ` + here + ` where c.transport_name = $1 and not ` + ours + `)`

// renew succeeds as long as nobody took over, even when the lease has expired. In a copy of the database it does not: behind
// a proxy one may answer at any time.
func (l *Lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	if err := l.call(ctx); err != nil {
		return err
	}
	sent := time.Now()
	tag, err := l.conn.Exec(ctx, renewSQL, l.cfg.Name, l.owner, l.generation, leaseTTL.Seconds())
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		if _, err := recognise(ctx, l.conn, l.cfg.Name); err != nil {
			return err
		}
		return ErrDeposed
	}
	l.trust.Renewed(sent)
	return nil
}

// Held reports whether this process may start actions: it renewed within the last three seconds. It is cheap.
func (l *Lease) Held() bool { return l.trust.Held() }

// Lost is closed when another process took over, or when the server turned out to have another database.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Generation counts the leaders of this name. Writes that carry an older one are refused.
func (l *Lease) Generation() int64 { return l.generation }

// Unclean reports whether the previous leader ended without releasing: what it had in flight may have killed it.
func (l *Lease) Unclean() bool { return l.unclean }

// First reports whether this name never had a leader before.
func (l *Lease) First() bool { return l.first }

// Release gives the lease back, so that a standby need not wait for it to expire. Release it after the last write.
func (l *Lease) Release(ctx context.Context) error {
	var err error
	l.released.Do(func() {
		l.stop()
		<-l.stopped
		err = l.giveBack(ctx)
		l.trust.Forfeit()
		l.hangUp(ctx)
	})
	return wrap("release lease", err)
}

func (l *Lease) giveBack(ctx context.Context) error {
	if l.trust.Ended() {
		return nil
	}
	if err := l.call(ctx); err != nil {
		return err
	}
	_, err := l.conn.Exec(ctx, `update core.tb_observer_lease set owner = null, expires_at = clock_timestamp()
		where name = $1 and owner = $2 and generation = $3`, l.cfg.Name, l.owner, l.generation)
	return err
}

func (l *Lease) name() string { return l.cfg.Name }

func (l *Lease) proxied() bool { return l.cfg.Config.Wake == wakePoll }

func (l *Lease) call(ctx context.Context) (err error) {
	if l.conn == nil || l.conn.IsClosed() {
		l.conn, err = dial(ctx, l.cfg.Pool, l.owner, l.proxied())
	}
	return err
}

func (l *Lease) hangUp(ctx context.Context) {
	hangUp(ctx, l.conn)
	l.conn = nil
}

// hangUp closes a connection that holds no transaction: there is nothing that a failure could lose.
func hangUp(ctx context.Context, conns ...*pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close(ctx)
			select {
			case <-conn.PgConn().CleanupDone():
			case <-ctx.Done():
			}
		}
	}
}

type leaseRow struct {
	owner      *string
	generation int64
	remaining  time.Duration
}

func (r leaseRow) taken() bool { return r.owner != nil && r.remaining > 0 }

func (r leaseRow) wait() time.Duration {
	if !r.taken() {
		return 0
	}
	return min(r.remaining+time.Millisecond, leaseRetry)
}

func readLease(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, name, lock string,
) (leaseRow, error) {
	var r leaseRow
	var micros int64
	err := db.QueryRow(ctx, `select owner, generation, (extract(epoch from expires_at - clock_timestamp()) * 1000000)::bigint
		from core.tb_observer_lease where name = $1 `+lock, name).Scan(&r.owner, &r.generation, &micros)
	if err != nil {
		return leaseRow{}, fmt.Errorf("read lease: %w", err)
	}
	r.remaining = time.Duration(micros) * time.Microsecond
	return r, nil
}
