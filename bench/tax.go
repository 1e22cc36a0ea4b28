package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/postgres"
)

var pgbenchTables = []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"}

const (
	taxLedger  = 2_000_000 // changes that one run of pgbench makes at most
	perScale   = 100_000   // accounts
	taxClients = 8
	taxThreads = "2"
)

// tax measures what the application still commits with capture, and with an observer and a receiver on the same cores.
func (b *bench) tax(ctx context.Context) ([]result, error) {
	db, err := b.pgbench(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	capture := result{name: "pgbench -N -c 8 with capture"}
	whole := result{name: "  against no trigger at all"}
	observer := result{name: "pgbench -N -c 8 with capture, observer and receiver"}
	both := result{name: observer.name}
	observer.name = whole.name
	var beside, withCapture, besideBoth, withObserver series
	for i := range b.pairs {
		var bare, least, captured, relayed, observed float64
		err := inTurn(i,
			func() (err error) {
				bare, err = b.load(ctx, db, taxClients, b.sizes.load)
				return err
			}, func() (err error) {
				least, err = b.loadLeast(ctx, db)
				return err
			}, func() (err error) {
				captured, err = b.loadCaptured(ctx, db, taxClients, b.sizes.load)
				return err
			}, func() (err error) {
				relayed, err = b.loadRelayed(ctx, db)
				return err
			}, func() (err error) {
				var n counts
				observed, n, err = b.loadObserved(ctx, db)
				both.add(n)
				return err
			})
		if err != nil {
			return nil, err
		}
		beside.add(captured, least)
		withCapture.add(captured, bare)
		besideBoth.add(observed, relayed)
		withObserver.add(observed, bare)
		b.note("pgbench: %.0f commits a second, %.0f with the least trigger, %.0f with capture, %.0f with the least trigger and consumer, %.0f with observer",
			bare, least, captured, relayed, observed)
	}
	whole, observer = whole.heldAgainst(withCapture, "bare", 0), observer.heldAgainst(withObserver, "bare", 0)
	whole.limits, observer.limits = nil, nil
	return []result{
		capture.heldAgainst(beside, "least trigger", 0.9), whole,
		both.heldAgainst(besideBoth, "least trigger and consumer", 0.9), observer,
	}, nil
}

// inTurn runs all, and each first in turn.
func inTurn(i int, runs ...func() error) error {
	for k := range runs {
		if err := runs[(i+k)%len(runs)](); err != nil {
			return err
		}
	}
	return nil
}

// pgbench returns a database with pgbench's tables, in which an observer has run once: what it installs stays.
func (b *bench) pgbench(ctx context.Context) (*database, error) {
	db, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	_, err = b.runPgbench(ctx, "--initialize", "--quiet", "--scale", strconv.Itoa(b.scale), db.url)
	if err == nil {
		err = postgres.EnsureWake(ctx, db.Pool, "fraiseql_events", false)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// load runs pgbench over tables that look as they did for the run before.
func (b *bench) load(ctx context.Context, db *database, clients int, d time.Duration) (perSecond float64, err error) {
	for _, statement := range []string{
		"truncate pgbench_history", "vacuum analyze pgbench_accounts", "vacuum analyze pgbench_branches", "vacuum analyze pgbench_tellers", "checkpoint",
	} {
		if _, err := db.Exec(ctx, statement); err != nil {
			return 0, fmt.Errorf("%s: %w", statement, err)
		}
	}
	seconds := strconv.Itoa(max(1, int(d.Seconds())))
	out, err := b.runPgbench(ctx, "--no-vacuum", "--skip-some-updates", "--client", strconv.Itoa(clients), "--jobs", taxThreads, "--time", seconds, db.url)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("run pgbench: it says no tps:\n%s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// leastTrigger is the least that capture of rows can be: it inserts both images, checks nothing, names no key, and writes with
// the rights of the application.
const leastTrigger = `
	create or replace function least_capture() returns trigger language plpgsql as $$
	begin
		insert into core.tb_entity_change_log (object_type, modification_type, object_data, object_data_before)
		values (tg_argv[0], tg_op, case when tg_op <> 'DELETE' then to_jsonb(new) end, case when tg_op <> 'INSERT' then to_jsonb(old) end);
		return null;
	end $$;
	create trigger least_capture after insert or update or delete on pgbench_accounts for each row execute function least_capture('accounts');
	create trigger least_capture after insert or update or delete on pgbench_history for each row execute function least_capture('history');`

// loadLeast is load with the least trigger that captures rows.
func (b *bench) loadLeast(ctx context.Context, db *database) (perSecond float64, err error) {
	if _, err := db.Exec(ctx, "truncate core.tb_entity_change_log;"+leastTrigger); err != nil {
		return 0, err
	}
	perSecond, err = b.load(ctx, db, taxClients, b.sizes.load)
	_, failed := db.Exec(ctx, "drop trigger least_capture on pgbench_accounts; drop trigger least_capture on pgbench_history")
	return perSecond, errors.Join(err, failed)
}

// loadRelayed is loadLeast while the least consumer posts every change to a receiver.
func (b *bench) loadRelayed(ctx context.Context, db *database) (perSecond float64, err error) {
	to, err := receive(ctx, 0, func([]byte) {}, func() {})
	if err != nil {
		return 0, err
	}
	c, err := b.start(ctx, spec{Role: "relay", Database: db.url, URL: to.url(), Page: 1000, Workers: 64})
	if err == nil {
		perSecond, err = b.loadLeast(ctx, db)
		_ = c.kill() // it runs until then, and fails because of it
	}
	return perSecond, errors.Join(err, to.close())
}

// loadCaptured is load with capture on, over an empty log.
func (b *bench) loadCaptured(ctx context.Context, db *database, clients int, d time.Duration) (perSecond float64, err error) {
	if _, err := db.Exec(ctx, "truncate core.tb_entity_change_log"); err != nil {
		return 0, err
	}
	for _, table := range pgbenchTables {
		if _, err := postgres.AddCapture(ctx, db.Pool, postgres.CaptureSpec{Table: table}); err != nil {
			return 0, err
		}
	}
	perSecond, err = b.load(ctx, db, clients, d)
	for _, table := range pgbenchTables {
		err = errors.Join(err, postgres.RemoveCapture(ctx, db.Pool, table))
	}
	return perSecond, err
}

// loadObserved is loadCaptured while an observer posts every change to a receiver.
func (b *bench) loadObserved(ctx context.Context, db *database) (perSecond float64, n counts, err error) {
	l := newLedger(0, taxLedger, int64(b.scale)*perScale+1)
	to, err := receive(ctx, 0, l.arrived, l.answer)
	if err != nil {
		return 0, n, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	if _, err := db.Exec(ctx, "truncate core.tb_entity_change_log"); err != nil {
		return 0, n, err
	}
	c, err := b.observe(ctx, setup{database: db.url, observers: observing("all", "*", "", postTo(to.url()))}, spec{})
	if err != nil {
		return 0, n, err
	}
	before, err := b.warmUp(ctx, db, l)
	if err == nil {
		perSecond, err = b.loadCaptured(ctx, db, taxClients, b.sizes.load)
	}
	var written int64
	if err == nil {
		written, err = db.rows(ctx)
	}
	if err == nil {
		err = until(ctx, func() bool { return l.distinct.Load() >= before+written })
	}
	if err != nil {
		return 0, n, errors.Join(err, c.kill())
	}
	_, err = c.stop()
	return perSecond, counts{lost: before + written - l.distinct.Load(), twice: l.twice.Load() + l.alien.Load(), disordered: l.disordered.Load()}, err
}

// warmUp returns once the observer delivers, with the number of changes that it took to know it.
func (b *bench) warmUp(ctx context.Context, db *database, l *ledger) (int64, error) {
	var failed error
	err := until(ctx, func() bool {
		_, failed = db.Exec(ctx, "select core.emit_event('Warmup', '{}')")
		return failed != nil || l.answered.Load() > 0
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	err = until(ctx, func() bool {
		var n int64
		n, failed = db.rows(ctx)
		return failed != nil || l.answered.Load() == n
	})
	return l.distinct.Load(), errors.Join(err, failed)
}

func (b *bench) runPgbench(ctx context.Context, args ...string) ([]byte, error) {
	program, err := testenv.FindTool("pgbench")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run pgbench: %w:\n%s", err, out)
	}
	return out, nil
}
