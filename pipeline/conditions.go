package pipeline

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// conditionErrorPause is the least time between two log lines about one observer's condition.
const conditionErrorPause = time.Minute

// conditionCounter counts how events fare with one observer's condition.
type conditionCounter struct {
	pipeline                            *Pipeline
	observer                            string
	matched, notMatched, failed, errors prometheus.Counter
	lastLogged                          atomic.Int64 // unix nanoseconds
}

func (p *Pipeline) conditionCounter(observer string) *conditionCounter {
	return &conditionCounter{
		pipeline: p, observer: observer,
		matched:    p.metrics.EventsProcessed.WithLabelValues(observer, "matched"),
		notMatched: p.metrics.EventsProcessed.WithLabelValues(observer, "not_matched"),
		failed:     p.metrics.EventsProcessed.WithLabelValues(observer, "condition_error"),
		errors:     p.metrics.ConditionErrors.WithLabelValues(observer),
	}
}

func (c *conditionCounter) count(matched bool, err error) {
	switch {
	case err != nil:
		c.failed.Inc()
		c.errors.Inc()
		now := time.Now().UnixNano()
		if last := c.lastLogged.Load(); now-last > int64(conditionErrorPause) && c.lastLogged.CompareAndSwap(last, now) {
			c.pipeline.log.Warn("condition could not be evaluated and counts as false", slog.String("observer", c.observer), slog.Any("error", err))
		}
	case matched:
		c.matched.Inc()
		c.pipeline.matched.Add(1)
	default:
		c.notMatched.Inc()
	}
}

// skipped counts events that did not match and that the condition was not evaluated for.
func (c *conditionCounter) skipped(events int64) { c.notMatched.Add(float64(events)) }

// gatherer adds what the dispatcher skipped to the counters before they are read.
type gatherer struct{ *Pipeline }

// Gather implements prometheus.Gatherer.
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	if d := g.dispatcher.Load(); d != nil {
		d.CountSkipped()
	}
	return g.registry.Gather()
}
