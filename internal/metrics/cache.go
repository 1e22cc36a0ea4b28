package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Cache counts how often the result of an action was cached.
type Cache struct{ hits, misses atomic.Int64 }

// NewCache registers the collectors with reg.
func NewCache(reg prometheus.Registerer) *Cache {
	c := &Cache{}
	count := func(name, help string, n *atomic.Int64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, func() float64 { return float64(n.Load()) }))
	}
	count("cache_hits_total", "Actions that were skipped because an identical one succeeded lately.", &c.hits)
	count("cache_misses_total", "Cacheable actions that ran.", &c.misses)
	Gauge(reg, "cache_hit_rate", "Share of hits among all cacheable actions since the start; 0 before the first.", c.HitRate)
	return c
}

// Look counts one look for a result.
func (c *Cache) Look(hit bool) {
	if hit {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
}

// Hits is how many actions were skipped.
func (c *Cache) Hits() int64 { return c.hits.Load() }

// Misses is how many ran.
func (c *Cache) Misses() int64 { return c.misses.Load() }

// HitRate is the share of hits, 0 before the first look.
func (c *Cache) HitRate() float64 {
	hits, misses := c.hits.Load(), c.misses.Load()
	if hits == 0 {
		return 0
	}
	return float64(hits) / float64(hits+misses)
}
