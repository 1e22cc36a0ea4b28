package config

import (
	"slices"
	"strings"
)

// Tables of which a topology may read some keys at most. What stands there is checked, and warned about.
var unusedTables = []string{"redis", "smtp", "transport.postgres", "transport.nats", "transport.redis", "transport.bridge"}

// usedKeys are keys in unusedTables that are read: always, or where an action of a type needs them.
var usedKeys = map[string][]string{
	"": {"transport.nats.jetstream.max_deliver", "transport.postgres.url"}, // commands ask the database
	"publish": {
		"transport.nats.url", "transport.nats.credentials_file", "transport.nats.token_env", "transport.nats.tls_ca", "transport.nats.tls_cert", "transport.nats.tls_key",
		"redis.url", "redis.tls_ca", "redis.tls_cert", "redis.tls_key", "redis.pool_size", "redis.connect_timeout_secs", "redis.command_timeout_secs",
	},
	"cache": {"redis.url", "redis.tls_ca", "redis.tls_cert", "redis.tls_key", "redis.pool_size", "redis.connect_timeout_secs", "redis.command_timeout_secs"},
	"email": {"smtp.host", "smtp.port", "smtp.tls", "smtp.from", "smtp.username_env", "smtp.password_env", "smtp.timeout_secs"},
}

// warnUnused warns about each unused table of the file and each variable that sets something in one.
func (d *decoder) warnUnused() {
	if d.opts.Needs != NeedsAll {
		return
	}
	used := slices.Clone(usedKeys[""])
	if d.cfg.Transport.Transport == "redis" {
		used = append(used, "transport.nats.jetstream.ack_wait_secs")
	}
	if d.cfg.Transport.RunBridge { // the rest is in its own table
		used = append(used, "transport.postgres.start_from", "transport.postgres.wake", "transport.postgres.auto_migrate", "transport.postgres.retention_days")
	}
	if d.cfg.Performance.EnableCaching {
		used = append(used, d.cacheKeys()...)
	}
	for _, o := range d.cfg.Observers {
		for _, a := range o.Actions {
			used = append(used, usedKeys[a.Type]...)
		}
	}
	used = append(used, d.dedupKeys()...)
	warned := map[string]bool{}
	for _, s := range d.cfg.values.list {
		table := outside(s.key)
		if !d.cfg.Explicit(s.key) || slices.Contains(used, s.key) || !isUnused(table) || d.carries(table) {
			continue
		}
		if s.node.pos.Env != "" {
			d.warn(s.node.pos, s.key, "has no effect in this topology", "")
			continue
		}
		if !warned[table] {
			d.warn(d.cfg.At(table), table, "has no effect in this topology"+except(table, used), "")
		}
		warned[table] = true
	}
}

// carries reports whether all of a table is read, since the topology is of its kind.
func (d *decoder) carries(table string) bool {
	t := &d.cfg.Transport
	switch table {
	case "transport.nats", "transport.nats.jetstream":
		return t.Transport == "nats"
	case "transport.postgres":
		return t.Transport == "postgres"
	case "transport.bridge":
		return t.RunBridge
	case "transport.redis", "redis":
		return t.Transport == "redis"
	}
	return false
}

// dedupKeys are those that deduplication reads: of the server only where its address is set.
func (d *decoder) dedupKeys() []string {
	switch {
	case !d.cfg.Performance.EnableDedup:
		return nil
	case d.cfg.HasRedis():
		return append(slices.Clone(usedKeys["cache"]), "redis.dedup_window_secs")
	}
	return []string{"redis.dedup_window_secs"}
}

// except names the keys of a table that are used.
func except(table string, used []string) string {
	var keys []string
	for _, key := range used {
		if name := strings.TrimPrefix(key, table+"."); outside(key) == table && !slices.Contains(keys, name) {
			keys = append(keys, name)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	return ", except " + strings.Join(keys, ", ")
}

func isUnused(table string) bool {
	return slices.ContainsFunc(unusedTables, func(t string) bool { return strings.HasPrefix(table+".", t+".") })
}
