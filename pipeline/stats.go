package pipeline

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/pipeline/nats"
)

const (
	statsEvery = 5 * time.Second
	logEvery   = 30 * time.Second
)

// stats are the latest figures of the transport, for the scrape, the log and the status.
type stats struct {
	events  measured     // of what the observers work on
	bridge  measured     // of what a bridge has to publish
	deadAge atomic.Int64 // nanoseconds
}

// measured holds nil until something was measured, and while this process does not do the work that is measured.
type measured struct{ atomic.Pointer[figures] }

func (m *measured) get() figures {
	if f := m.Load(); f != nil {
		return *f
	}
	return figures{}
}

// figures are the state of a transport.
type figures struct {
	backlog, parked, dead int64
	age, parkedAge        time.Duration // of the oldest
	at                    time.Time
	consumer              *nats.Lag // nil: the topology has none
	partitions            *PartitionsStatus
	stream                *streamMarks
}

// backlog is what is committed and not settled: of one event only one of the two knows.
func (s *stats) backlog() int64     { return s.events.get().backlog + s.bridge.get().backlog }
func (s *stats) age() time.Duration { return max(s.events.get().age, s.bridge.get().age) }

func (p *Pipeline) registerStats() {
	s := &p.stats
	metrics.Gauge(p.registry, "backlog_size", "Events that are committed and not settled.", func() float64 { return float64(s.backlog()) })
	metrics.Gauge(p.registry, "backlog_age_seconds", "Age of the oldest event that is not settled.", func() float64 { return s.age().Seconds() })
	metrics.Gauge(p.registry, "parked_deliveries", "Deliveries that wait for another attempt.", func() float64 { return float64(s.events.get().parked) })
	metrics.Gauge(p.registry, "parked_age_seconds", "Time since the oldest of them was first parked.", func() float64 { return s.events.get().parkedAge.Seconds() })
	metrics.Gauge(p.registry, "dead_letters", "Dead letters that are stored.", func() float64 { return float64(s.events.get().dead) })
	metrics.Gauge(p.registry, "dead_letter_age_seconds", "Time since the oldest of them failed first.", func() float64 { return time.Duration(s.deadAge.Load()).Seconds() })
}

// report keeps the figures in into fresh and logs them, until ctx ends.
func (p *Pipeline) report(ctx context.Context, into *measured, ask func(context.Context) (figures, error)) {
	threshold := int64(p.plan.cfg.Performance.BacklogAlertThreshold)
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	defer into.Store(nil)
	for logged := time.Now(); ; {
		p.refresh(ctx, into, ask)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if into == &p.stats.bridge && p.plan.cfg.Transport.RunExecutors {
			continue // the worker beside it logs for both
		}
		due := time.Since(logged) > logEvery-statsEvery/2
		if due || p.log.Enabled(ctx, slog.LevelDebug) {
			f := p.stats.events.get()
			p.log.Info("metrics", slog.Int64("backlog_size", p.stats.backlog()), slog.Float64("backlog_age_seconds", p.stats.age().Seconds()),
				slog.Int64("parked_deliveries", f.parked), slog.Int64("dead_letters", f.dead), slog.Int64("delivered", p.delivered.Load()),
				slog.Float64("cache_hit_rate", p.cache.HitRate()), slog.Float64("dedup_hit_rate", p.metrics.Dedup.HitRate()))
		}
		if due {
			logged = time.Now()
			if b := p.stats.backlog(); b > threshold {
				p.log.Warn("backlog is over its alert threshold", slog.Int64("backlog", b), slog.Int64("threshold", threshold))
			}
		}
	}
}

func (p *Pipeline) refresh(ctx context.Context, into *measured, ask func(context.Context) (figures, error)) {
	ctx, cancel := context.WithTimeout(ctx, statsEvery)
	defer cancel()
	f, err := ask(ctx)
	if err != nil {
		p.log.Debug("figures not read", slog.Any("error", err))
		return
	}
	f.at = time.Now()
	into.Store(&f)
}
