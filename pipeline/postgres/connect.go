package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// poolSize serves everything that shares the pool: reading pages, the checkpoint, the lease, the retry queue's reads and
// acknowledgements, and a few actions that park or dead-letter at the same time. The wake-up has connections of its own.
const poolSize = 8

const (
	connectTimeout = 5 * time.Second
	keepAlive      = 15 * time.Second
)

// DB is what the operator calls of this package need: a pool, a connection or a transaction of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

var (
	_ DB = (*pgxpool.Pool)(nil)
	_ DB = (*pgx.Conn)(nil)
	_ DB = pgx.Tx(nil)
)

// Connect opens a small pool and checks that the server answers. Its errors say what to do; [IsFatal] tells whether
// waiting could help. The caller closes the pool.
func Connect(ctx context.Context, cfg Config, log *slog.Logger) (*pgxpool.Pool, error) {
	pc, err := poolConfig(cfg)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, wrap("connect to postgres", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, wrap("connect to postgres", err)
	}
	log.Debug("connected to postgres", "host", pc.ConnConfig.Host, "database", pc.ConnConfig.Database)
	return pool, nil
}

func poolConfig(cfg Config) (*pgxpool.Config, error) {
	url := cfg.URL.Reveal()
	pc, err := pgxpool.ParseConfig(url)
	if url == "" || err != nil {
		return nil, fmt.Errorf("%w %w", errURL, CheckURL(url))
	}
	if !strings.Contains(url, "pool_max_conns") {
		pc.MaxConns = poolSize
	}
	pc.MaxConns = max(pc.MaxConns, poolSize) // with fewer, those that share it would wait for each other
	cc := pc.ConnConfig
	if cc.ConnectTimeout == 0 || cc.ConnectTimeout > time.Minute {
		cc.ConnectTimeout = connectTimeout
	}
	cc.DialFunc = (&net.Dialer{Timeout: cc.ConnectTimeout, KeepAlive: keepAlive}).DialContext
	cc.ValidateConnect = new(pin).validate(cc.ValidateConnect)
	setDefault(cc.RuntimeParams, "application_name", "observer "+cfg.ListenerName)
	if cfg.Wake == "poll" {
		// A transaction-pooling proxy knows neither our prepared statements nor other startup parameters.
		cc.DefaultQueryExecMode = pgx.QueryExecModeExec
		return pc, nil
	}
	setDefault(cc.RuntimeParams, "jit", "off")
	setDefault(cc.RuntimeParams, "idle_in_transaction_session_timeout", "60s")
	return pc, nil
}

func setDefault(params map[string]string, key, value string) {
	if params[key] == "" {
		params[key] = value
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
