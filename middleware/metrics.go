package middleware

import (
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/metrics"
)

// Collectors are the program's metrics. Another program has its own through [NewCollectors].
type Collectors = metrics.Metrics

// NewCollectors registers the metrics of the program, and those of its Go runtime, with reg, which must not have them yet.
func NewCollectors(reg prometheus.Registerer) *Collectors { return metrics.New(reg) }

// Metrics counts the attempts of one action by outcome, and times them. With [FailureAlert] a dead letter is an alert.
func Metrics(m *Collectors, observer, action, kind string, on OnFailure) message.HandlerMiddleware {
	results := map[string]prometheus.Counter{}
	success := m.Actions.WithLabelValues(observer, action, kind, "success")
	for _, r := range []string{"parked", "dead_letter", "dropped", "busy", "duplicate", "error"} {
		results[r] = m.Actions.WithLabelValues(observer, action, kind, r)
	}
	if on == FailureAlert {
		m.Alerts.WithLabelValues(observer) // at 0: a series that begins at 1 has no increase to alert on
	}
	took := m.ActionDuration.WithLabelValues(kind)
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			start := time.Now()
			msgs, err := next(msg)
			if errors.Is(err, event.ErrDuplicate) {
				results["duplicate"].Inc() // no attempt was made
				return msgs, err
			}
			took.Observe(time.Since(start).Seconds())
			if err == nil {
				success.Inc()
				return msgs, nil
			}
			result := outcome(err)
			results[result].Inc()
			switch {
			case result == "parked":
				m.Retries.Inc()
			case result == "dead_letter" && on == FailureAlert:
				m.Alerts.WithLabelValues(observer).Inc()
			}
			return msgs, err
		}
	}
}

func outcome(err error) string {
	switch {
	case errors.Is(err, event.ErrParked):
		return "parked"
	case errors.Is(err, event.ErrDeadLettered):
		return "dead_letter"
	case errors.Is(err, event.ErrDropped):
		return "dropped"
	case errors.Is(err, event.ErrBusy):
		return "busy"
	}
	return "error"
}
