package pipeline

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/internal/metrics"
)

const (
	statsEvery = 5 * time.Second
	logEvery   = 30 * time.Second
)

// stats are the latest figures of the transport, for the scrape and the log.
type stats struct {
	backlog, parked, dead atomic.Int64
	age, parkedAge        atomic.Uint64 // bits of a float64, seconds
	deadAge               atomic.Int64  // nanoseconds
}

// figures are the state of a transport.
type figures struct {
	backlog, parked, dead int64
	age, parkedAge        time.Duration // of the oldest
}

func (p *Pipeline) registerStats() {
	metrics.Gauge(p.registry, "backlog_size", "Events that are committed and not settled.", func() float64 { return float64(p.stats.backlog.Load()) })
	metrics.Gauge(p.registry, "backlog_age_seconds", "Age of the oldest event that is not settled.", func() float64 { return math.Float64frombits(p.stats.age.Load()) })
	metrics.Gauge(p.registry, "parked_deliveries", "Deliveries that wait for another attempt.", func() float64 { return float64(p.stats.parked.Load()) })
	metrics.Gauge(p.registry, "parked_age_seconds", "Time since the oldest of them was first parked.", func() float64 { return math.Float64frombits(p.stats.parkedAge.Load()) })
	metrics.Gauge(p.registry, "dead_letters", "Dead letters that are stored.", func() float64 { return float64(p.stats.dead.Load()) })
	metrics.Gauge(p.registry, "dead_letter_age_seconds", "Time since the oldest of them failed first.", func() float64 { return time.Duration(p.stats.deadAge.Load()).Seconds() })
}

// report keeps the figures fresh and logs them, until ctx ends.
func (p *Pipeline) report(ctx context.Context, ask func(context.Context) (figures, error)) {
	threshold := int64(p.plan.cfg.Performance.BacklogAlertThreshold)
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for logged := time.Now(); ; {
		p.refresh(ctx, ask)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := time.Since(logged) > logEvery-statsEvery/2
		if due || p.log.Enabled(ctx, slog.LevelDebug) {
			p.log.Info("metrics", slog.Int64("backlog_size", p.stats.backlog.Load()), slog.Float64("backlog_age_seconds", math.Float64frombits(p.stats.age.Load())),
				slog.Int64("parked_deliveries", p.stats.parked.Load()), slog.Int64("dead_letters", p.stats.dead.Load()), slog.Int64("delivered", p.delivered.Load()),
				slog.Float64("cache_hit_rate", p.cache.HitRate()), slog.Float64("dedup_hit_rate", p.metrics.Dedup.HitRate()))
		}
		if due {
			logged = time.Now()
			if b := p.stats.backlog.Load(); b > threshold {
				p.log.Warn("backlog is over its alert threshold", slog.Int64("backlog", b), slog.Int64("threshold", threshold))
			}
		}
	}
}

func (p *Pipeline) refresh(ctx context.Context, ask func(context.Context) (figures, error)) {
	ctx, cancel := context.WithTimeout(ctx, statsEvery)
	defer cancel()
	f, err := ask(ctx)
	if err != nil {
		p.log.Debug("figures not read", slog.Any("error", err))
		return
	}
	p.stats.backlog.Store(f.backlog)
	p.stats.parked.Store(f.parked)
	p.stats.dead.Store(f.dead)
	p.stats.age.Store(math.Float64bits(f.age.Seconds()))
	p.stats.parkedAge.Store(math.Float64bits(f.parkedAge.Seconds()))
}
