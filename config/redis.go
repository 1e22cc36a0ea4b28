package config

import (
	"errors"

	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/pipeline/redis"
)

// HasRedis reports whether there is a Redis server: where the file or the environment sets its url. Deduplication, the cache of
// results and actions ask it alike. The other keys of the table name none: two of them also count where Redis is not used.
func (c *Config) HasRedis() bool { return c.Explicit("redis.url") }

func (d *decoder) checkRedis() {
	r := &d.cfg.Redis
	check := r.Check
	if d.cfg.Transport.Transport == "redis" {
		check = func() error { return redis.Check(*r) }
	}
	if err := check(); err != nil {
		d.wrong("redis.url", err.Error(), "")
	}
	if d.opts.Needs != NeedsAll { // only the command that runs the observers needs the files
		return
	}
	if file, ok := errors.AsType[*redisconn.FileError](r.CheckFiles()); ok {
		d.wrong("redis."+file.Key, file.Err.Error(), "")
	}
}
