// Package redisconn connects to the operator's Redis.
package redisconn

import (
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/fraiseql/observer/internal/secret"
)

// Config is the [redis] table.
type Config struct {
	URL                secret.String `toml:"url" default:"redis://localhost:6379" env:"FRAISEQL_REDIS_URL" doc:"server address"`
	PoolSize           int           `toml:"pool_size" default:"10" min:"1" max:"10000" env:"FRAISEQL_REDIS_POOL_SIZE" doc:"connections at most"`
	ConnectTimeoutSecs int           `toml:"connect_timeout_secs" default:"5" min:"1" max:"3600" env:"FRAISEQL_REDIS_CONNECT_TIMEOUT_SECS" doc:"seconds to connect"`
	CommandTimeoutSecs int           `toml:"command_timeout_secs" default:"2" min:"1" max:"3600" env:"FRAISEQL_REDIS_COMMAND_TIMEOUT_SECS" doc:"seconds for one command"`
	DedupWindowSecs    int           `toml:"dedup_window_secs" default:"300" min:"1" max:"31536000" env:"FRAISEQL_REDIS_DEDUP_WINDOW_SECS" doc:"how long a finished delivery is remembered, in seconds"`
	CacheTTLSecs       int           `toml:"cache_ttl_secs" default:"60" min:"1" max:"31536000" env:"FRAISEQL_REDIS_CACHE_TTL_SECS" doc:"how long the result of an action is remembered, in seconds"`
}

// ErrURL says that the address is none; the text of the address, which may hold a password, is not in it.
var ErrURL = errors.New("is not the URL of a Redis server (write redis://user:password@host:6379/0, or rediss:// with TLS)")

// Check reports whether the address can be read.
func (c Config) Check() error {
	if _, err := redis.ParseURL(c.URL.Reveal()); err != nil {
		return ErrURL
	}
	return nil
}

// quiet keeps go-redis from printing to stderr what it also returns as errors. It has one logger for all its clients.
var quiet = sync.OnceFunc(func() { redis.SetLogger(&logging.VoidLogger{}) })

// Open returns a client, which connects when it is first used.
func Open(c Config) (redis.UniversalClient, error) {
	options, err := redis.ParseURL(c.URL.Reveal())
	if err != nil {
		return nil, ErrURL
	}
	quiet()
	options.PoolSize = c.PoolSize
	options.DialTimeout = time.Duration(c.ConnectTimeoutSecs) * time.Second
	options.ReadTimeout = time.Duration(c.CommandTimeoutSecs) * time.Second
	options.WriteTimeout = options.ReadTimeout
	options.ContextTimeoutEnabled = true
	options.ClientName = "observer"
	// Callers know better when to try again. Once is for a connection that the server closed while it was idle.
	options.MaxRetries, options.DialerRetries = 1, 1
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // of a hosted product
	return redis.NewClient(options), nil
}
