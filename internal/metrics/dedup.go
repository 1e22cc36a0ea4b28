package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Dedup counts what the record of finished deliveries was asked.
type Dedup struct {
	Checks     atomic.Int64 // answered
	Duplicates atomic.Int64 // of these, done before
	Errors     atomic.Int64 // the store did not answer
}

// HitRate is the share of checks that found a duplicate, 0 without any.
func (d *Dedup) HitRate() float64 {
	duplicates, checks := d.Duplicates.Load(), d.Checks.Load()
	return float64(duplicates) / float64(max(checks, 1))
}

func (d *Dedup) register(reg prometheus.Registerer) {
	counter := func(name, help string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	reg.MustRegister(
		counter("dedup_checks_total", "Deliveries that were looked up among the finished ones.", &d.Checks),
		counter("dedup_duplicates_total", "Of these, those that were done before and skipped.", &d.Duplicates),
		counter("dedup_errors_total", "Calls that the store of finished deliveries did not answer.", &d.Errors),
	)
	Gauge(reg, "dedup_hit_rate", "Share of the checks that found a duplicate.", d.HitRate)
}
