package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/pipeline/postgres"
)

// entity is what most rows of the table change.
const entity = "Item"

// database is one database with our objects in it.
type database struct {
	*pgxpool.Pool
	url string
}

func (b *bench) database(ctx context.Context) (*database, error) {
	name := b.name("bench")
	admin, err := pgxpool.New(ctx, b.cluster.URL())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if _, err := admin.Exec(ctx, "create database "+name); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	u, err := url.Parse(b.cluster.URL())
	if err != nil {
		return nil, err
	}
	u.Path = "/" + name
	d := &database{url: u.String()}
	if d.Pool, err = pgxpool.New(ctx, d.url); err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, d.Pool, slog.New(slog.DiscardHandler)); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// fill writes n changes into the log, as an update of one row of a small table is captured; they go round the entities.
func (d *database) fill(ctx context.Context, n, entities int64) error {
	_, err := d.Exec(ctx, `insert into core.tb_entity_change_log (object_type, modification_type, object_key, object_data, object_data_before)
		select $1, 'UPDATE', i % $3, jsonb_build_object('id', i % $3, 'n', i, 'status', 'shipped', 'total', 12.50, 'customer', 'customer ' || i % 100),
			jsonb_build_object('id', i % $3, 'n', i - $3, 'status', 'paid', 'total', 12.50, 'customer', 'customer ' || i % 100)
		from generate_series(1::bigint, $2::bigint) i`, entity, n, entities)
	if err != nil {
		return fmt.Errorf("fill change log: %w", err)
	}
	return d.settle(ctx)
}

// settle makes what was written look as it does in a server that has stood for a while.
func (d *database) settle(ctx context.Context) error {
	for _, statement := range []string{"vacuum analyze core.tb_entity_change_log", "checkpoint"} {
		if _, err := d.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// last returns the log's last row.
func (d *database) last(ctx context.Context) (pk int64, err error) {
	err = d.QueryRow(ctx, "select coalesce(max(pk_entity_change_log), 0) from core.tb_entity_change_log").Scan(&pk)
	return pk, err
}

// mark stores the position up to which the log is full now, for start.
func (d *database) mark(ctx context.Context) error {
	return postgres.SetCheckpoint(ctx, d.Pool, "mark", "now")
}

// fromMark lets a listener start at the mark.
func (d *database) fromMark(ctx context.Context, listener string) error {
	_, err := d.Exec(ctx, `insert into public.tb_observer_checkpoint (transport_name, snapshot_from, epoch, system_identifier)
		select $1, snapshot_from, epoch, system_identifier from public.tb_observer_checkpoint where transport_name = 'mark'`, listener)
	return err
}

// rows returns how many changes the log holds.
func (d *database) rows(ctx context.Context) (n int64, err error) {
	err = d.QueryRow(ctx, "select count(*) from core.tb_entity_change_log").Scan(&n)
	return n, err
}
