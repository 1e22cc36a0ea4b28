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
	backlog, dead atomic.Int64
	age           atomic.Uint64 // bits of a float64, seconds
}

// figures asks a transport for its state now.
type figures func(ctx context.Context) (backlog int64, age time.Duration, dead int64, err error)

func (p *Pipeline) registerStats() {
	metrics.Gauge(p.registry, "backlog_size", "Events that are committed and not settled.", func() float64 { return float64(p.stats.backlog.Load()) })
	metrics.Gauge(p.registry, "backlog_age_seconds", "Age of the oldest event that is not settled.", func() float64 { return math.Float64frombits(p.stats.age.Load()) })
	metrics.Gauge(p.registry, "dead_letters", "Dead letters that are stored.", func() float64 { return float64(p.stats.dead.Load()) })
}

// report keeps the figures fresh and logs them, until ctx ends.
func (p *Pipeline) report(ctx context.Context, ask figures) {
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
				slog.Int64("dead_letters", p.stats.dead.Load()), slog.Int64("delivered", p.delivered.Load()))
		}
		if due {
			logged = time.Now()
			if b := p.stats.backlog.Load(); b > threshold {
				p.log.Warn("backlog is over its alert threshold", slog.Int64("backlog", b), slog.Int64("threshold", threshold))
			}
		}
	}
}

func (p *Pipeline) refresh(ctx context.Context, ask figures) {
	ctx, cancel := context.WithTimeout(ctx, statsEvery)
	defer cancel()
	backlog, age, dead, err := ask(ctx)
	if err != nil {
		p.log.Debug("figures not read", slog.Any("error", err))
		return
	}
	p.stats.backlog.Store(backlog)
	p.stats.age.Store(math.Float64bits(age.Seconds()))
	p.stats.dead.Store(dead)
}
