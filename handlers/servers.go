package handlers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
)

// ServersConfig says where the operator's own servers are. A nil Redis or NATS is one that nobody configured.
type ServersConfig struct {
	Postgres    secret.String // the transport's database, "" when it has none
	Redis       *redisconn.Config
	NATS        *natsconn.Config
	SMTP        SMTPConfig
	Concurrency int  // actions at the same time: connections at most to each Postgres database
	Offline     bool // nothing will connect, so that an address may be missing
}

// Servers are the operator's own servers, which actions use and which the guard does not judge. A connection is opened when
// an action first needs it, and shared by all of them.
type Servers struct {
	cfg ServersConfig

	mu    sync.Mutex // guards what follows
	pools map[string]*pgxpool.Pool
	redis redis.UniversalClient
	mail  *mailer

	natsTurn chan struct{} // held while one opens the connection: guards nats
	nats     *natsconn.Conn
}

// NewServers returns the servers of cfg. It uses no network. Close them when no action runs any more.
func NewServers(cfg ServersConfig) *Servers {
	return &Servers{cfg: cfg, pools: map[string]*pgxpool.Pool{}, natsTurn: make(chan struct{}, 1)}
}

// Close ends every connection.
func (s *Servers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pool := range s.pools {
		pool.Close()
	}
	if s.redis != nil {
		_ = s.redis.Close() // nothing is under way
	}
	if s.mail != nil {
		s.mail.close()
	}
	s.natsTurn <- struct{}{}
	defer func() { <-s.natsTurn }()
	if s.nats != nil {
		s.nats.Close()
	}
}

// postgres returns the pool of a database; "" is the transport's. It uses no network. A query whose ctx ends returns at once, and
// pgx cancels it on the server, in its default way: with its CancelRequestContextWatcherHandler, which hangs up as soon as the
// query has ended, each such query crashes a PgBouncer 1.18.
func (s *Servers) postgres(ctx context.Context, url string) (*pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if url == "" {
		url = s.cfg.Postgres.Reveal()
	}
	if pool := s.pools[url]; pool != nil {
		return pool, nil
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("read the URL of the database: it is none") // pgx prints parts of it
	}
	if !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = int32(min(max(s.cfg.Concurrency, 1), maxPool))
	}
	cfg.PingTimeout = dialTimeout                               // a server that vanished costs an attempt no more than one that is not reached
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind a transaction-pooling proxy
	cfg.ConnConfig.ConnectTimeout = dialTimeout
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "observer"
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.pools[url] = pool
	return pool, nil
}

// maxPool bounds the connections to one database: it has other users.
const maxPool = 20

var (
	errNoRedis = errors.New("no Redis server is configured: set url in [redis]")
	errNoNATS  = errors.New("no NATS server is configured: set url in [transport.nats]")
)

// Redis returns the one client of this process for the server of [redis], which connects when it is first used. It ends with
// the Servers.
func (s *Servers) Redis() (redis.UniversalClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Redis == nil {
		return nil, errNoRedis
	}
	if s.redis == nil {
		client, err := redisconn.Open(*s.cfg.Redis)
		if err != nil {
			return nil, fmt.Errorf("url in [redis] %w", err)
		}
		s.redis = client
	}
	return s.redis, nil
}

// natsConn returns the connection to NATS. The first who asks for it waits for a server until ctx ends, and others wait for
// the first. Later ones get it also while no server answers.
func (s *Servers) natsConn(ctx context.Context) (*natsconn.Conn, error) {
	if s.cfg.NATS == nil {
		return nil, errNoNATS
	}
	select {
	case s.natsTurn <- struct{}{}:
		defer func() { <-s.natsTurn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connection to NATS: %w", ctx.Err())
	}
	if s.nats == nil || s.nats.Ended() {
		conn, err := natsconn.Open(ctx, *s.cfg.NATS)
		if err != nil {
			return nil, err
		}
		s.nats = conn
	}
	return s.nats, nil
}
