package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/internal/admin"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// Options are what a [Pipeline] is built from. Plan and Log are required.
type Options struct {
	Plan *Plan
	// Middleware holds the team's own, by the name that the file uses.
	Middleware map[string]message.HandlerMiddleware
	Tracer     trace.Tracer // nil: tracing is off
	Version    string       // of the program, for the status
	Log        *slog.Logger
}

// Pipeline runs one topology.
type Pipeline struct {
	plan       *Plan
	middleware map[string]message.HandlerMiddleware
	tracer     trace.Tracer
	log        *slog.Logger
	version    string
	started    time.Time
	metrics    *metrics.Metrics
	registry   *prometheus.Registry
	health     *admin.Health
	stats      stats
	redis      *outage.Log
	endpoints  map[string]*middleware.Endpoint
	cache      *metrics.Cache
	results    *middleware.Results // nil: nothing is cached

	capturesEvery time.Duration // between two looks at the captured tables

	delivered, matched, deadLetters atomic.Int64
	dispatcher                      atomic.Pointer[dispatch.Dispatcher] // of this term of leadership or the last
	turn, worker                    atomic.Pointer[string]              // what Role.State tells; nil while starting
}

// New returns a Pipeline. It uses no network.
func New(opts Options) (*Pipeline, error) {
	if opts.Plan == nil || opts.Log == nil {
		return nil, errors.New("pipeline: Plan and Log are required")
	}
	registry := prometheus.NewRegistry()
	p := &Pipeline{
		plan: opts.Plan, middleware: opts.Middleware, tracer: opts.Tracer, log: opts.Log, version: opts.Version, started: time.Now(),
		metrics: metrics.New(registry), registry: registry, health: admin.NewHealth(),
		cache: metrics.NewCache(registry), redis: outage.New(opts.Log, "redis fails, working without it", "redis works"),
		capturesEvery: capturesEvery,
	}
	p.registerStats()
	p.openEndpoints()
	return p, nil
}

// Run runs the topology until ctx ends and all that was begun has drained. It returns nil after a clean drain; an error
// means that a person must act. Servers that do not answer are waited for.
func (p *Pipeline) Run(ctx context.Context) error {
	switch name := p.plan.cfg.Transport.Transport; name {
	case "postgres":
		return p.withAdmin(ctx, func(ctx context.Context) error {
			return p.withResults(func() error { return p.runPostgres(ctx) })
		})
	case "nats":
		return p.withAdmin(ctx, func(ctx context.Context) error {
			return p.withResults(func() error { return p.runNATS(ctx) })
		})
	case "redis":
		return p.withAdmin(ctx, func(ctx context.Context) error {
			return p.withResults(func() error { return p.runStreams(ctx) })
		})
	default:
		return fmt.Errorf("run transport %q: it has no long-running form (in_memory needs --input FILE)", name)
	}
}

// withAdmin runs the admin address beside run.
func (p *Pipeline) withAdmin(ctx context.Context, run func(context.Context) error) error {
	cfg := p.plan.cfg.Admin
	if cfg.Listen == "" {
		return run(ctx)
	}
	server, err := admin.Listen(admin.Config{
		Address: cfg.Listen, TokenEnv: cfg.TokenEnv, Gatherer: gatherer{p}, Health: p.health, Log: p.log,
		Status: func() any { return p.Status() },
	})
	if err != nil {
		return err
	}
	return errors.Join(run(ctx), server.Close())
}
