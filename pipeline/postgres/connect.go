package postgres

import (
	"context"
	"errors"
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
	longestWait    = 5 * time.Second
)

// DB is what the operator calls of this package need: a pool, a connection or a transaction of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
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

// ConnectAndWait is [Connect] for long-running processes: while the server does not answer it warns and tries again,
// until ctx ends. An error that a person must mend ends it at once.
func ConnectAndWait(ctx context.Context, cfg Config, log *slog.Logger) (*pgxpool.Pool, error) {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, longestWait) {
		pool, err := Connect(ctx, cfg, log)
		if err == nil || IsFatal(err) || errors.Is(err, errURL) {
			return pool, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.Warn("waiting for postgres", "error", err)
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// errURL has no cause: the parser's message may hold the URL, and with it the password.
var errURL = errors.New("transport.postgres.url (or DATABASE_URL) is missing or no connection URL: write postgres://user:password@host:5432/database")

func poolConfig(cfg Config) (*pgxpool.Config, error) {
	url := cfg.URL.Reveal()
	if url == "" {
		return nil, errURL
	}
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errURL
	}
	if !strings.Contains(url, "pool_max_conns") {
		pc.MaxConns = poolSize
	}
	cc := pc.ConnConfig
	if cc.ConnectTimeout == 0 || cc.ConnectTimeout > time.Minute {
		cc.ConnectTimeout = connectTimeout
	}
	cc.DialFunc = (&net.Dialer{Timeout: cc.ConnectTimeout, KeepAlive: keepAlive}).DialContext
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
