package cmd

import (
	"log/slog"
	"time"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
)

// actionEnv returns what the actions of cfg are built with. The caller closes its HTTP and Servers when none runs any more.
func (p *program) actionEnv(cfg *config.Config, log *slog.Logger, offline bool) (handlers.Env, error) {
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
	return handlers.Env{
		Logger: log, HTTP: http, Servers: handlers.NewServers(servers(cfg, offline)),
		Timeout: time.Duration(perf.ConcurrentTimeoutMS) * time.Millisecond,
	}, nil
}

// servers says which of the operator's servers cfg names.
func servers(cfg *config.Config, offline bool) handlers.ServersConfig {
	s := handlers.ServersConfig{
		SMTP: cfg.SMTP, Concurrency: cfg.Performance.MaxConcurrency * cfg.Performance.MaxConcurrentActions, Offline: offline,
	}
	if cfg.Transport.Transport == "postgres" {
		s.Postgres = cfg.Transport.Postgres.URL
	}
	if cfg.HasRedis() {
		s.Redis = &cfg.Redis
	}
	if cfg.Transport.Transport == "nats" || cfg.Explicit("transport.nats") || cfg.Explicit("transport.nats.url") {
		s.NATS = &cfg.Transport.NATS.Config
	}
	return s
}
