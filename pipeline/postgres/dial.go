package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxApplicationName is what Postgres keeps of application_name (NAMEDATALEN - 1).
const maxApplicationName = 63

// newOwner names one leader's sessions: it is their application_name, so that a successor can find and end them.
func newOwner(name string) string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // documented never to fail
	suffix := " " + hex.EncodeToString(id[:])
	prefix := "observer " + name
	return prefix[:min(len(prefix), maxApplicationName-len(suffix))] + suffix
}

// dial opens a connection outside of the pool, for work that holds it for hours. A session of a pooling proxy belongs to
// many clients, so nothing is set on it.
func dial(ctx context.Context, pool *pgxpool.Pool, application string, proxied bool) (*pgx.Conn, error) {
	cfg := pool.Config().ConnConfig.Copy()
	if proxied {
		return pgx.ConnectConfig(ctx, cfg)
	}
	cfg.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// Time-outs that a role may have are for its application: a wait for a lock or for news has no natural end.
	_, err = conn.Exec(ctx, `select set_config(name, '0', false) from pg_settings
		where name in ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'transaction_timeout')`)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the first error says it
		return nil, err
	}
	return conn, nil
}
