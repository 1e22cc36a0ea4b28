package config

// checkDedup refuses deduplication that would have no store.
func (d *decoder) checkDedup() {
	p := &d.cfg.Performance
	if t := &d.cfg.Transport; p.EnableDedup && t.Transport == "nats" && t.RunExecutors && !d.cfg.HasRedis() {
		d.wrong("performance.enable_dedup", "needs redis.url with transport nats, which brings no store of its own", "set url in [redis], or remove enable_dedup")
	}
}
