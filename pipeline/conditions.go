package pipeline

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// conditionErrorPause is the least time between two log lines about one observer's condition.
const conditionErrorPause = time.Minute

// conditionCounters counts how events fare with each observer's condition.
type conditionCounters struct {
	pipeline   *Pipeline
	byObserver map[string]*conditionCounter
}

type conditionCounter struct {
	matched, notMatched, failed, errors prometheus.Counter
	lastLogged                          atomic.Int64 // unix nanoseconds
}

func (p *Pipeline) conditionCounters() conditionCounters {
	c := conditionCounters{p, map[string]*conditionCounter{}}
	for _, o := range p.plan.observers {
		c.byObserver[o.Name] = &conditionCounter{
			matched:    p.metrics.EventsProcessed.WithLabelValues(o.Name, "matched"),
			notMatched: p.metrics.EventsProcessed.WithLabelValues(o.Name, "not_matched"),
			failed:     p.metrics.EventsProcessed.WithLabelValues(o.Name, "condition_error"),
			errors:     p.metrics.ConditionErrors.WithLabelValues(o.Name),
		}
	}
	return c
}

func (c conditionCounters) count(observer string, matched bool, err error) {
	counter := c.byObserver[observer]
	switch {
	case err != nil:
		counter.failed.Inc()
		counter.errors.Inc()
		now := time.Now().UnixNano()
		if last := counter.lastLogged.Load(); now-last > int64(conditionErrorPause) && counter.lastLogged.CompareAndSwap(last, now) {
			c.pipeline.log.Warn("condition could not be evaluated and counts as false", slog.String("observer", observer), slog.Any("error", err))
		}
	case matched:
		counter.matched.Inc()
		c.pipeline.matched.Add(1)
	default:
		counter.notMatched.Inc()
	}
}
