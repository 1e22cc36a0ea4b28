package postgres

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// pin holds a process to the database that it began with: name resolution, a proxy or a restart may lead a later
// connection to another one. It follows a promotion, and does not go back.
type pin struct {
	mu sync.Mutex // guards what follows
	at identity   // zero before the first
}

// accept refuses a database that is not the one before.
func (p *pin) accept(now identity) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.at == identity{}:
		p.at = now
	case now.system != p.at.system, now.database != p.at.database, now.timeline != 0 && now.timeline < p.at.timeline:
		return &foreignError{stored: p.at, here: now}
	}
	p.at.timeline = max(p.at.timeline, now.timeline)
	return nil
}

// validate asks each new connection; of a URL with several hosts the next one is tried. Behind a pooling proxy a
// connection says little of the next transaction: see session.query, and fence.
func (p *pin) validate(next pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if next != nil {
			if err := next(ctx, conn); err != nil {
				return err
			}
		}
		now, err := connected(ctx, conn)
		if err != nil {
			return fmt.Errorf("ask which database it is: %w", err)
		}
		return p.accept(now)
	}
}

func connected(ctx context.Context, conn *pgconn.PgConn) (now identity, err error) {
	results, err := conn.Exec(ctx, `select `+hereColumns+` from `+here).ReadAll()
	if err != nil {
		return now, err
	}
	row := results[0].Rows[0] // one statement with one row
	oid, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return now, err
	}
	timeline, err := strconv.ParseInt(string(row[2]), 10, 32)
	return identity{string(row[0]), uint32(oid), int32(timeline)}, err
}
