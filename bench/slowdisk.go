package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// onlookers are the processes of observer that run beside the application.
var onlookers = []struct {
	name    string
	readers int // of the change log; 0: one that is a bridge
}{{"an observer", 1}, {"a bridge", 0}, {"three observers", 3}}

const logQuietly = "type = \"log\"\nmessage_template = \"{{ event.id }}\"\nlevel = \"debug\"\n"

// slowDisk measures what the application still commits beside observers where each commit waits for the disk.
func (b *bench) slowDisk(ctx context.Context) ([]result, error) {
	return b.onDisk(ctx, 4*time.Millisecond, 32)
}

// slowDisks does so for disks from good to bad.
func (b *bench) slowDisks(ctx context.Context) (results []result, err error) {
	for _, fsync := range []time.Duration{time.Millisecond, 4 * time.Millisecond, 10 * time.Millisecond} {
		part, err := b.onDisk(ctx, fsync, 8, 32, 64)
		if err != nil {
			return results, err
		}
		results = append(results, part...)
	}
	return results, nil
}

func (b *bench) onDisk(ctx context.Context, fsync time.Duration, writers ...int) (results []result, err error) {
	fast := b.cluster
	if b.cluster, err = testenv.NewSlowCluster(fsync, clusterSettings...); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, b.cluster.Close())
		b.cluster = fast
	}()
	db, err := b.pgbench(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	bus, err := b.bus(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bus.close()) }()
	for _, n := range writers {
		for _, o := range onlookers {
			r := result{name: fmt.Sprintf("pgbench -N -c %d, fsync %s longer, with capture and %s", n, fsync, o.name)}
			var runs series
			for i := range b.pairs {
				var alone, beside float64
				err := alternate(i, func() (err error) {
					alone, err = b.loadCaptured(ctx, db, n, b.short)
					return err
				}, func() (err error) {
					beside, err = b.loadBeside(ctx, db, bus, n, o.readers)
					return err
				})
				if err != nil {
					return results, err
				}
				runs.add(beside, alone)
				b.note("%s: %.0f commits a second against %.0f", r.name, beside, alone)
			}
			results = append(results, r.heldAgainst(runs, "capture alone", 0.85))
		}
	}
	return results, nil
}

// loadBeside is loadCaptured while observers deliver every change, or a bridge publishes it; it returns when they have done so.
func (b *bench) loadBeside(ctx context.Context, db *database, bus *bus, clients, readers int) (perSecond float64, err error) {
	if _, err := db.Exec(ctx, "truncate core.tb_entity_change_log"); err != nil {
		return 0, err
	}
	var names []string
	var running []*child
	defer func() {
		for _, c := range running {
			_, failed := c.stop()
			err = errors.Join(err, failed)
		}
	}()
	for range max(1, readers) {
		set := setup{database: db.url, listener: b.name("listener"), observers: observing("all", "*", "", logQuietly)}
		if readers == 0 {
			stream := b.name("stream")
			if _, err := bus.stream(ctx, stream); err != nil {
				return 0, err
			}
			set.transport = bridging(bus.url, stream, set.listener)
		}
		c, err := b.observe(ctx, set, spec{})
		if err != nil {
			return 0, err
		}
		names, running = append(names, set.listener), append(running, c)
	}
	if err := b.caughtUp(ctx, db, names); err != nil {
		return 0, err
	}
	perSecond, err = b.loadCaptured(ctx, db, clients, b.short)
	if err != nil {
		return 0, err
	}
	return perSecond, b.caughtUp(ctx, db, names)
}

// caughtUp waits until every reader has read and settled what it could see a moment ago.
func (b *bench) caughtUp(ctx context.Context, db *database, names []string) error {
	var mark string
	if err := db.QueryRow(ctx, "select core.emit_event('Mark', '{}')::text").Scan(&mark); err != nil {
		return err
	}
	var failed error
	err := until(ctx, func() bool {
		var done int
		failed = db.QueryRow(ctx, `select count(*) from public.tb_observer_checkpoint c, core.tb_entity_change_log l
			where c.transport_name = any ($1) and l.id = $2 and c.pending = '{}' and c.snapshot_to is null and pg_visible_in_snapshot(l.tx_id, c.snapshot_from)`, names, mark).Scan(&done)
		return failed != nil || done == len(names)
	})
	return errors.Join(err, failed)
}
