package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
)

// Plan is a configuration made ready to run: every condition compiled, every action built.
type Plan struct {
	cfg       *config.Config
	servers   *handlers.Servers
	observers []observer
}

type observer struct {
	config.Observer
	condition *handlers.Condition // nil: every event
	actions   []action
}

type action struct {
	config.Action
	run handlers.Action
}

// Compile builds the enabled and disabled observers of cfg, of which a bridge alone has none. It uses no network; the
// problems are all that it found, with their places in the file.
func Compile(cfg *config.Config, registry *handlers.Registry, env handlers.Env) (*Plan, []config.Problem) {
	plan := &Plan{cfg: cfg, servers: env.Servers}
	var problems []config.Problem
	for i, o := range cfg.Observers {
		key := fmt.Sprintf("observers[%d]", i)
		built := observer{Observer: o}
		if o.Condition != "" {
			condition, err := handlers.CompileCondition(o.Condition)
			if err != nil {
				problems = append(problems, cfg.Problem(key+".condition", err.Error(), ""))
			}
			built.condition = condition
		}
		if !cfg.Transport.Executes() { // what actions need is needed elsewhere
			continue
		}
		for j, a := range o.Actions {
			run, found := compileAction(cfg, registry, env, fmt.Sprintf("%s.actions[%d]", key, j), a)
			problems = append(problems, found...)
			built.actions = append(built.actions, action{Action: a, run: run})
		}
		if o.Enabled {
			plan.observers = append(plan.observers, built)
		}
	}
	return plan, problems
}

func compileAction(cfg *config.Config, registry *handlers.Registry, env handlers.Env, key string, a config.Action) (handlers.Action, []config.Problem) {
	if a.Config == nil {
		return nil, nil // reported when the file was read
	}
	env.Hidden = func(name string) bool { return cfg.Hidden(key + "." + name) }
	run, err := registry.New(a.Type, a.Config, env)
	if _, ok := run.(handlers.Fingerprinter); err == nil && a.Cacheable && !ok {
		err = &handlers.KeyError{Key: "cacheable", Err: errors.New("no action of type " + a.Type + " can be cached"), Hint: "remove it, or give the action a Fingerprint"}
	}
	if err == nil {
		return run, nil
	}
	list := handlers.KeyErrors(err)
	if len(list) == 0 {
		return nil, []config.Problem{cfg.Problem(key, err.Error(), "")}
	}
	problems := make([]config.Problem, len(list))
	for i, e := range list {
		table := key
		if e.Table != "" {
			table = e.Table
		}
		problems[i] = cfg.Problem(table+"."+e.Key, e.Err.Error(), e.Hint)
	}
	return nil, problems
}

// attemptTimeout bounds one attempt of an action that sets no time of its own.
func (p *Plan) attemptTimeout() time.Duration {
	return time.Duration(p.cfg.Performance.ConcurrentTimeoutMS) * time.Millisecond
}

// Describe lists the observers, one a line, for the log and for --dry-run.
func (p *Plan) Describe() []string {
	lines := make([]string, len(p.observers))
	for i, o := range p.observers {
		names := make([]string, len(o.actions))
		for j, a := range o.actions {
			names[j] = a.Name
		}
		kind := string(o.EventType)
		if kind == "" {
			kind = "any change"
		}
		lines[i] = fmt.Sprintf("%s: %s of %s -> %s", o.Name, kind, o.Entity, strings.Join(names, ", "))
	}
	return lines
}
