package config

import (
	"slices"
	"strings"
)

// What the configuration names and this version cannot do. It is refused, never accepted and ignored: whoever builds
// one of these deletes its line.
var (
	notYetValues = map[string][]string{
		"transport.transport":        {"nats", "redis"},
		"transport.run_bridge":       {"true"},
		"transport.run_executors":    {"false"},
		"performance.enable_dedup":   {"true"},
		"performance.enable_caching": {"true"},
		"observers.on_retry":         {"hold"},
	}
	notYetActions = []string{"slack", "email", "sql", "database", "publish", "cache"}
	notYetKeys    = map[string][]string{ // of an action, by its type
		"webhook": {"signing_secret_env", "cacheable", "rate_limit", "max_in_flight", "tls_ca", "tls_cert", "tls_key"},
	}
)

// Tables that existing files have and that nothing of this version reads, but for one key. What stands there is checked,
// and warned about.
var unusedTables = []string{"redis", "smtp", "transport.nats", "transport.redis", "transport.bridge"}

const usedKey = "transport.nats.jetstream.max_deliver"

// warnUnused warns about each unused table of the file and each variable that sets something in one.
func (d *decoder) warnUnused() {
	if d.opts.Needs != NeedsAll {
		return
	}
	warned := map[string]bool{}
	for _, s := range d.cfg.values.list {
		table := outside(s.key)
		if !d.cfg.Explicit(s.key) || s.key == usedKey || !isUnused(table) {
			continue
		}
		if s.node.pos.Env != "" {
			d.warn(s.node.pos, s.key, "has no effect in this version", "")
			continue
		}
		message := "has no effect in this version"
		if table == outside(usedKey) {
			message += ", except max_deliver"
		}
		if !warned[table] {
			d.warn(d.cfg.At(table), table, message, "")
		}
		warned[table] = true
	}
}

func isUnused(table string) bool {
	return slices.ContainsFunc(unusedTables, func(t string) bool { return strings.HasPrefix(table+".", t+".") })
}
