// Package redisconn connects to the operator's Redis: one server, the master that Sentinels name, or a Cluster.
package redisconn

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/fraiseql/observer/internal/secret"
)

// Config is the [redis] table.
type Config struct {
	URL                secret.String `toml:"url" default:"redis://localhost:6379" env:"FRAISEQL_REDIS_URL" doc:"server address, without which no Redis is used; with ?addr= of a Cluster, with ?master_name= of Sentinels"`
	TLSCA              string        `toml:"tls_ca" doc:"file with the certificates to trust instead of the system's"`
	TLSCert            string        `toml:"tls_cert" doc:"file with the client certificate"`
	TLSKey             string        `toml:"tls_key" doc:"file with the key of the client certificate"`
	PoolSize           int           `toml:"pool_size" default:"10" min:"1" max:"10000" env:"FRAISEQL_REDIS_POOL_SIZE" doc:"connections at most, to each server"`
	ConnectTimeoutSecs int           `toml:"connect_timeout_secs" default:"5" min:"1" max:"3600" env:"FRAISEQL_REDIS_CONNECT_TIMEOUT_SECS" doc:"seconds to connect"`
	CommandTimeoutSecs int           `toml:"command_timeout_secs" default:"2" min:"1" max:"3600" env:"FRAISEQL_REDIS_COMMAND_TIMEOUT_SECS" doc:"seconds for one command"`
	DedupWindowSecs    int           `toml:"dedup_window_secs" default:"300" min:"1" max:"31536000" env:"FRAISEQL_REDIS_DEDUP_WINDOW_SECS" doc:"how long a finished delivery is remembered, in seconds"`
	CacheTTLSecs       int           `toml:"cache_ttl_secs" default:"60" min:"1" max:"31536000" env:"FRAISEQL_REDIS_CACHE_TTL_SECS" doc:"how long the result of an action is remembered, in seconds"`
}

// quiet keeps go-redis from printing to stderr what it also returns as errors. It has one logger for all its clients.
var quiet = sync.OnceFunc(func() { redis.SetLogger(&logging.VoidLogger{}) })

// Open returns a client, which connects when it is first used. It is a *redis.ClusterClient for a Cluster, else a
// *redis.Client. The error goes on where "url in [redis]" ends, and holds nothing of the URL.
func Open(c Config) (redis.UniversalClient, error) {
	options, err := parse(c.URL.Reveal())
	if err != nil {
		return nil, err
	}
	if err := c.secure(options); err != nil {
		return nil, err
	}
	quiet()
	options.PoolSize = c.PoolSize
	options.PipelinePoolSize = -1 // pool_size bounds all connections: no second pool beside it
	options.DialTimeout = time.Duration(c.ConnectTimeoutSecs) * time.Second
	options.ReadTimeout = time.Duration(c.CommandTimeoutSecs) * time.Second
	options.WriteTimeout = options.ReadTimeout
	options.ContextTimeoutEnabled = true
	options.ClientName = "observer"
	// Callers know better when to try again. Once is for a connection that the server closed while it was idle.
	options.MaxRetries, options.DialerRetries = 1, 1
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // of a hosted product
	return redis.NewUniversalClient(options), nil
}

// Ping asks whether the server answers, in a Cluster each master.
func Ping(ctx context.Context, client redis.UniversalClient) error {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return node.Ping(ctx).Err() })
	}
	return client.Ping(ctx).Err()
}
