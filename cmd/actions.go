package cmd

import (
	"log/slog"
	"time"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
)

// actionEnv returns what the actions of cfg are built with. The caller closes its HTTP when none runs any more.
func (p *program) actionEnv(cfg *config.Config, log *slog.Logger) (handlers.Env, error) {
	guard, err := handlers.NewGuard(cfg.Security)
	if err != nil {
		return handlers.Env{}, err
	}
	perf := cfg.Performance
	http, err := handlers.NewHTTP(handlers.HTTPConfig{
		Guard: guard, Concurrency: perf.MaxConcurrency * perf.MaxConcurrentActions, Version: buildInfo().Version,
	})
	if err != nil {
		return handlers.Env{}, err
	}
	return handlers.Env{Logger: log, HTTP: http, Timeout: time.Duration(perf.ConcurrentTimeoutMS) * time.Millisecond}, nil
}
