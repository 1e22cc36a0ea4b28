package config

import (
	"net/http"

	"github.com/fraiseql/observer/handlers"
)

// cacheKeys are the keys of [redis] that the cache of results reads.
func (d *decoder) cacheKeys() []string {
	keys := []string{"redis.cache_ttl_secs"}
	if d.cfg.HasRedis() {
		keys = append(keys, usedKeys["cache"]...)
	}
	return keys
}

// checkCaching warns where nothing can be cached although it is asked for.
func (d *decoder) checkCaching() {
	if d.opts.Needs != NeedsAll {
		return
	}
	const on = "performance.enable_caching"
	cacheable := 0
	for i := range d.cfg.Observers {
		for j, a := range d.cfg.Observers[i].Actions {
			if !a.Cacheable {
				continue
			}
			cacheable++
			key := join(at(join(at("observers", i), "actions"), j), "cacheable")
			if !d.cfg.Performance.EnableCaching {
				d.warn(d.cfg.At(key), key, "has no effect while caching is off", "set enable_caching = true in [performance]")
			}
			d.checkRepeats(a, key)
		}
	}
	if d.cfg.Performance.EnableCaching && cacheable == 0 {
		d.warn(d.cfg.At(on), on, "has no effect: no action is cacheable", "set cacheable = true where an identical request may be skipped")
	}
}

// checkRepeats warns about a webhook of which no two requests can be the same.
func (d *decoder) checkRepeats(a Action, key string) {
	w, ok := a.Config.(*handlers.WebhookConfig)
	if ok && w.BodyTemplate == "" && w.Method != http.MethodGet {
		d.warn(d.cfg.At(key), key, "has no effect: the default body holds the id of the event, so no two requests are the same",
			"write a body_template of what matters")
	}
}
