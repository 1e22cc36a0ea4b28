package config

import "github.com/fraiseql/observer/internal/secret"

// Redis is the [redis] table.
type Redis struct {
	URL                secret.String `toml:"url" default:"redis://localhost:6379" env:"FRAISEQL_REDIS_URL" doc:"server address"`
	PoolSize           int           `toml:"pool_size" default:"10" min:"1" max:"10000" env:"FRAISEQL_REDIS_POOL_SIZE" doc:"connections at most"`
	ConnectTimeoutSecs int           `toml:"connect_timeout_secs" default:"5" min:"1" max:"3600" env:"FRAISEQL_REDIS_CONNECT_TIMEOUT_SECS" doc:"seconds to connect"`
	CommandTimeoutSecs int           `toml:"command_timeout_secs" default:"2" min:"1" max:"3600" env:"FRAISEQL_REDIS_COMMAND_TIMEOUT_SECS" doc:"seconds for one command"`
	DedupWindowSecs    int           `toml:"dedup_window_secs" default:"300" min:"1" max:"31536000" env:"FRAISEQL_REDIS_DEDUP_WINDOW_SECS" doc:"how long a finished delivery is remembered, in seconds"`
	CacheTTLSecs       int           `toml:"cache_ttl_secs" default:"60" min:"1" max:"31536000" env:"FRAISEQL_REDIS_CACHE_TTL_SECS" doc:"how long the result of an action is remembered, in seconds"`
}

// RedisStreams is the [transport.redis] table.
type RedisStreams struct {
	Stream        string `toml:"stream" default:"fraiseql_events" doc:"stream that holds the events"`
	ConsumerGroup string `toml:"consumer_group" default:"fraiseql_observer_worker" doc:"workers with one group share the work"`
}
