package config

import (
	"errors"

	"github.com/fraiseql/observer/internal/redisconn"
)

func (d *decoder) checkRedis() {
	r := &d.cfg.Redis
	if err := r.Check(); err != nil {
		d.wrong("redis.url", err.Error(), "")
	}
	if d.opts.Needs != NeedsAll { // only the command that runs the observers needs the files
		return
	}
	if file, ok := errors.AsType[*redisconn.FileError](r.CheckFiles()); ok {
		d.wrong("redis."+file.Key, file.Err.Error(), "")
	}
}
