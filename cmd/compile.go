package cmd

import (
	"log/slog"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/tracing"
	"github.com/fraiseql/observer/pipeline"
)

// compiled is a configuration made ready to run, as [config.Load] does it on the way.
type compiled struct {
	program *program
	offline bool              // nothing will connect
	tracing *tracing.Settings // nil: off
	log     *slog.Logger
	env     handlers.Env
	plan    *pipeline.Plan
}

// check finds what is wrong with the conditions and actions of cfg, whose other tables may be wrong as well.
func (c *compiled) check(cfg *config.Config) (problems []config.Problem) {
	c.log = c.program.logger(cfg)
	if c.offline { // what is asked is about the observers, also with the file of a bridge
		executing := *cfg
		executing.Transport.RunExecutors = true
		cfg = &executing
	}
	forActions := *cfg
	if _, err := handlers.NewGuard(cfg.Security); err != nil { // it has a problem already: no action is judged by it
		forActions.Security = handlers.SecurityConfig{PrivateNetworks: "always", AllowCIDRs: []string{"0.0.0.0/0", "::/0"}}
	}
	var err error
	if c.env, err = c.program.actionEnv(&forActions, c.log, c.offline); err != nil {
		return []config.Problem{cfg.Problem("observers", err.Error(), "")}
	}
	c.plan, problems = pipeline.Compile(cfg, c.program.registry, c.env)
	return append(problems, c.checkTracing()...)
}

// checkTracing reads the variables of OpenTelemetry, which a command that sends nothing does not need.
func (c *compiled) checkTracing() (problems []config.Problem) {
	if c.offline {
		return nil
	}
	settings, wrong := tracing.FromEnv(c.program.getenv)
	for _, w := range wrong {
		problems = append(problems, config.Problem{Position: config.Position{Env: w.Name}, Message: w.Problem, Hint: w.Hint})
	}
	c.tracing = settings
	return problems
}

func (c *compiled) close() {
	if c.env.HTTP != nil {
		c.env.HTTP.Close()
		c.env.Servers.Close()
	}
}
