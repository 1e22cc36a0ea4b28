package main

import (
	"context"
	"fmt"

	"github.com/fraiseql/observer/pipeline/postgres"
)

// items returns a database with a captured table of rows, all of them delivered already.
func (b *bench) items(ctx context.Context) (*database, error) {
	db, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := db.createItems(ctx, b.entities); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func (d *database) createItems(ctx context.Context, entities int64) error {
	_, err := d.Exec(ctx, "create table item (id bigint primary key, n bigint not null default 0, status text not null, total numeric not null, customer text not null)")
	if err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	if _, err := postgres.AddCapture(ctx, d.Pool, postgres.CaptureSpec{Table: "item", Entity: entity}); err != nil {
		return err
	}
	_, err = d.Exec(ctx, "insert into item select i, 0, 'paid', 12.50, 'customer ' || i % 100 from generate_series(0, $1::bigint - 1) i", entities)
	if err != nil {
		return fmt.Errorf("insert items: %w", err)
	}
	return d.mark(ctx)
}

// changed returns a database in which rows were changed n times after the mark, and the log's row before the first.
func (b *bench) changed(ctx context.Context, n int64) (*database, int64, error) {
	db, err := b.items(ctx)
	if err != nil {
		return nil, 0, err
	}
	after, err := db.last(ctx)
	for done := int64(0); err == nil && done < n; done += b.entities {
		_, err = db.Exec(ctx, "update item set n = n + 1, status = 'shipped' where id < $1", n-done)
	}
	if err == nil {
		err = db.settle(ctx)
	}
	if err != nil {
		db.Close()
		return nil, 0, fmt.Errorf("change items: %w", err)
	}
	return db, after, nil
}
