package config

// RedisStreams is the [transport.redis] table.
type RedisStreams struct {
	Stream        string `toml:"stream" default:"fraiseql_events" doc:"stream that holds the events"`
	ConsumerGroup string `toml:"consumer_group" default:"fraiseql_observer_worker" doc:"workers with one group share the work"`
}
