package redis

import (
	"errors"
	"strings"

	"github.com/fraiseql/observer/internal/redisconn"
)

// Config is the [transport.redis] table.
type Config struct {
	Stream        string `toml:"stream" default:"fraiseql_events" doc:"stream that holds the events"`
	ConsumerGroup string `toml:"consumer_group" default:"fraiseql_observer_worker" doc:"workers with one group share the work"`
}

// Check says why a server cannot be the transport: the keys of one stream have to be on one server.
func Check(server redisconn.Config) error {
	if err := server.Check(); err != nil {
		return err
	}
	if name := server.Server(); strings.HasPrefix(name, "the Cluster ") {
		return errors.New("names " + name + ": transport = \"redis\" needs one server, or a master that Sentinels name, as its stream, retries and dead letters change together")
	}
	return nil
}
