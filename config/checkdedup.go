package config

// checkDedup refuses deduplication that would have no store.
func (d *decoder) checkDedup() {
	p := &d.cfg.Performance
	if p.EnableDedup && d.cfg.Transport.Transport == "nats" && !d.cfg.HasRedis() {
		d.wrong("performance.enable_dedup", "needs redis.url with transport nats, which brings no store of its own", "set url in [redis], or remove enable_dedup")
	}
}
