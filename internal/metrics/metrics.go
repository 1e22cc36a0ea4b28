// Package metrics declares every Prometheus metric of the program, once. Labels never hold row data or full URLs.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

const namespace = "fraiseql_observer"

// Metrics holds the collectors.
type Metrics struct {
	EventsProcessed *prometheus.CounterVec   // observer, result: matched | not_matched | condition_error
	EventLatency    prometheus.Histogram     // change made -> all its actions done
	ConditionErrors *prometheus.CounterVec   // observer
	Actions         *prometheus.CounterVec   // observer, action, type, result: success | parked | dead_letter | dropped | busy | duplicate | error
	ActionDuration  *prometheus.HistogramVec // type
	Retries         prometheus.Counter
	DeadLetters     prometheus.Counter
	Alerts          *prometheus.CounterVec // observer
	Spilled         prometheus.Counter
	BreakerOpen     *prometheus.GaugeVec // endpoint
	Leader          prometheus.Gauge
	CaptureProblems prometheus.Gauge
	Dedup           Dedup
}

// New registers the collectors with reg.
func New(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
	}
	m := &Metrics{
		EventsProcessed: prometheus.NewCounterVec(counter("events_processed_total", "Events held against an observer's condition, by result."), []string{"observer", "result"}),
		EventLatency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "event_latency_seconds", Help: "Time from the change to the end of all its actions.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 22),
		}),
		ConditionErrors: prometheus.NewCounterVec(counter("condition_errors_total", "Conditions that could not be evaluated and count as false."), []string{"observer"}),
		Actions:         prometheus.NewCounterVec(counter("actions_total", "Attempts of actions, by result."), []string{"observer", "action", "type", "result"}),
		ActionDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "action_duration_seconds", Help: "Time that one attempt took.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2.5, 14),
		}, []string{"type"}),
		Retries:         prometheus.NewCounter(counter("retries_total", "Deliveries that were parked for another attempt.")),
		DeadLetters:     prometheus.NewCounter(counter("dead_letters_total", "Deliveries that became dead letters.")),
		Alerts:          prometheus.NewCounterVec(counter("alerts_total", "Dead letters of observers with on_failure = \"alert\"."), []string{"observer"}),
		Spilled:         prometheus.NewCounter(counter("spilled_total", "Deliveries that were sent to the retry queue without an attempt: their endpoint took no more, or an earlier one of their lane was there.")),
		BreakerOpen:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "breaker_open", Help: "1 while an endpoint is taken to be down."}, []string{"endpoint"}),
		Leader:          prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "leader", Help: "1 while this process reads the change log, 0 while it stands by."}),
		CaptureProblems: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "capture_problems", Help: "Captured tables whose capture is disabled, drifted or missing: see observer capture list."}),
	}
	reg.MustRegister(m.EventsProcessed, m.EventLatency, m.ConditionErrors, m.Actions, m.ActionDuration, m.Retries, m.DeadLetters, m.Alerts, m.Spilled, m.BreakerOpen, m.Leader, m.CaptureProblems)
	m.Dedup.register(reg)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gauge registers a gauge whose value is asked for at each scrape.
func Gauge(reg prometheus.Registerer, name, help string, value func() float64) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value))
}
