package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/postgres"
	"github.com/fraiseql/observer/pipeline/redis"
)

// Check is one line of --dry-run.
type Check struct {
	Name   string
	Detail string
	Note   bool  // Detail is something to look at, which does not keep the topology from running
	Err    error // what keeps it from running
}

// DryRun connects to every service that the plan needs and checks what run needs of it. It changes nothing.
func DryRun(ctx context.Context, plan *Plan, log *slog.Logger) []Check {
	return slices.Concat(checkTransport(ctx, plan, log), checkRedis(ctx, plan), checkActions(ctx, plan))
}

// checkStreams asks the server of transport redis.
func checkStreams(ctx context.Context, plan *Plan) Check {
	check := Check{Name: "redis", Detail: "answers"}
	client, err := redisconn.Open(plan.cfg.Redis)
	if err != nil {
		check.Err = fmt.Errorf("url in [redis] %w", err)
		return check
	}
	defer func() { _ = client.Close() }() // nothing is under way
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if check.Err = redisconn.Ping(limited, client); check.Err == nil {
		if warnings := redis.Warnings(limited, client); len(warnings) > 0 {
			check.Detail, check.Note = strings.Join(warnings, "; "), true
		}
	}
	return check
}

// checkActions asks each action that can find out whether what it needs is there.
func checkActions(ctx context.Context, plan *Plan) []Check {
	var checks []Check
	for _, o := range plan.observers {
		for _, a := range o.actions {
			checker, ok := a.run.(handlers.Checker)
			if !ok {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, checkTimeout)
			detail, err := checker.Check(limited)
			cancel()
			checks = append(checks, Check{Name: dispatch.Topic(o.Name, a.Name), Detail: detail, Err: err})
		}
	}
	return checks
}

// checkTimeout bounds the check of one action.
const checkTimeout = 10 * time.Second

func checkTransport(ctx context.Context, plan *Plan, log *slog.Logger) []Check {
	t := plan.cfg.Transport
	switch t.Transport {
	case "postgres":
		return checkLog(ctx, plan, t.Postgres, log)
	case "redis":
		return []Check{checkStreams(ctx, plan)}
	case "nats":
		checks := []Check{{Name: "nats", Detail: "runs in the process of observer run, with its data in " + t.NATS.StoreDir}}
		if !t.NATS.Embedded {
			checks = checkNATS(ctx, t.NATS)
		}
		if t.RunBridge {
			checks = append(checks, checkLog(ctx, plan, bridged(&t), log)...)
		}
		return checks
	}
	return []Check{{Name: "in_memory", Detail: "needs no service"}}
}

// checkLog checks what is needed of the database whose changes are read as cfg says.
func checkLog(ctx context.Context, plan *Plan, cfg postgres.Config, log *slog.Logger) []Check {
	pool, err := postgres.Connect(ctx, cfg, log)
	if err != nil {
		return []Check{{Name: postgresCheck, Err: err}}
	}
	defer pool.Close()
	checks := []Check{{Name: postgresCheck, Detail: "answers"}, checkSchema(ctx, pool, cfg)}
	if checks[1].Detail != schemaCurrent { // the others need it
		return checks
	}
	return append(append(checks, checkPosition(ctx, pool, cfg)), checkCaptures(ctx, pool, plan)...)
}

// checkNATS checks what is needed of the server that carries the events.
func checkNATS(ctx context.Context, cfg nats.Config) (checks []Check) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	conn, err := natsconn.Open(ctx, cfg.Config)
	if err == nil {
		defer conn.Close()
		if down := conn.Down(); down != nil {
			err = fmt.Errorf("connect to NATS: %w: %s", down, natsFix)
		}
	}
	if err != nil {
		return []Check{{Name: natsCheck, Err: err}}
	}
	for _, f := range nats.Inspect(ctx, conn.Conn, conn, cfg) {
		checks = append(checks, Check{Name: f.Name, Detail: f.Detail, Err: f.Err})
	}
	return checks
}

const schemaCurrent = "current"

func checkSchema(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config) Check {
	err := postgres.SchemaCurrent(ctx, pool)
	switch {
	case errors.Is(err, postgres.ErrSchema) && cfg.AutoMigrate:
		return Check{Name: "schema", Detail: "is missing or outdated; run creates it (auto_migrate)"}
	case err != nil:
		return Check{Name: "schema", Err: err}
	}
	return Check{Name: "schema", Detail: schemaCurrent}
}

func checkPosition(ctx context.Context, pool *pgxpool.Pool, cfg postgres.Config) Check {
	check := Check{Name: "checkpoint", Detail: "none yet; a first start reads from " + cfg.StartFrom}
	if check.Err = postgres.CheckIdentity(ctx, pool, cfg.ListenerName); check.Err != nil {
		return check
	}
	list, err := postgres.ListCheckpoints(ctx, pool)
	if err != nil {
		check.Err = err
	}
	for _, c := range list {
		if c.Name != cfg.ListenerName {
			continue
		}
		check.Detail = fmt.Sprintf("%s: %d events pending, %d unread", c.Name, c.Pending, c.Backlog)
	}
	return check
}

// checkCaptures names entities that observers wait for and no table is captured as, which may still come as custom events, and
// captures that do not fit their tables.
func checkCaptures(ctx context.Context, pool *pgxpool.Pool, plan *Plan) []Check {
	captures, err := postgres.ListCaptures(ctx, pool)
	if err != nil {
		return []Check{{Name: "captures", Err: err}}
	}
	checks := []Check{checkEntities(captures, plan)}
	for _, c := range problemsOf(captures) {
		checks = append(checks, Check{Name: captureCheck, Note: true, Detail: captureText(c) + "; run: " + c.Command})
	}
	return checks
}

func checkEntities(captures []postgres.Capture, plan *Plan) Check {
	known := make([]string, len(captures))
	for i, c := range captures {
		known[i] = c.Entity
	}
	var missing []string
	for _, o := range plan.observers {
		if o.Entity != "*" && o.EventType != "CUSTOM" && !slices.Contains(known, o.Entity) && !slices.Contains(missing, o.Entity) {
			missing = append(missing, o.Entity)
		}
	}
	if len(missing) > 0 {
		return Check{Name: "captures", Note: true, Detail: fmt.Sprintf("no table is captured as %s: run: observer capture add TABLE --entity %s", strings.Join(missing, ", "), missing[0])}
	}
	return Check{Name: "captures", Detail: fmt.Sprintf("%d tables", len(captures))}
}

// warnUncaptured logs at the start of a run what --dry-run notes about entities; watchCaptures tells of the rest.
func (p *Pipeline) warnUncaptured(ctx context.Context, pool *pgxpool.Pool) {
	captures, err := postgres.ListCaptures(ctx, pool)
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("captured tables could not be listed", slog.Any("error", err))
		}
		return
	}
	if check := checkEntities(captures, p.plan); check.Note {
		p.log.Warn("an observer waits for changes that no table gives", slog.String("reason", check.Detail))
	}
}
