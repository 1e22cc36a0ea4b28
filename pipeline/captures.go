package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/pipeline/postgres"
)

const (
	captureCheck    = "capture"
	capturesEvery   = 10 * time.Second // how soon a table that was altered shows
	capturesPatient = 5 * time.Second
	capturesRemind  = 24 * time.Hour // how often the log tells of the same
	capturesShown   = 5              // in a line of /readyz; observer capture list shows all
)

// toldCapture is what the log said last of the capture of a table.
type toldCapture struct {
	state   postgres.CaptureState
	problem string
	at      time.Time
}

// watchCaptures holds what is captured against the tables as they are, until ctx ends: what does not fit degrades the process,
// and the log tells of it when it begins, once a day, and when it is over. A look that fails changes nothing.
func (p *Pipeline) watchCaptures(ctx context.Context, ask func(context.Context) ([]postgres.Capture, error)) {
	told := map[string]toldCapture{}
	var failed time.Time
	for {
		patience, cancel := context.WithTimeout(ctx, capturesPatient)
		captures, err := ask(patience)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failed = time.Time{}
			problems := problemsOf(captures)
			p.showCaptures(problems)
			p.tellCaptures(told, problems)
		case failed.IsZero() || time.Since(failed) >= capturesRemind:
			failed = time.Now()
			p.log.Warn("cannot check the captured tables, retrying", slog.Any("error", err))
		}
		if !pause(ctx, p.capturesEvery) {
			p.showCaptures(nil) // a standby does not look
			return
		}
	}
}

// listCaptures is what watchCaptures asks of a database.
func listCaptures(pool *pgxpool.Pool) func(context.Context) ([]postgres.Capture, error) {
	return func(ctx context.Context) ([]postgres.Capture, error) { return postgres.ListCaptures(ctx, pool) }
}

func problemsOf(captures []postgres.Capture) (problems []postgres.Capture) {
	for _, c := range captures {
		if c.State != postgres.CaptureOK {
			problems = append(problems, c)
		}
	}
	return problems
}

func (p *Pipeline) showCaptures(problems []postgres.Capture) {
	p.metrics.CaptureProblems.Set(float64(len(problems)))
	if len(problems) == 0 {
		p.health.OK(captureCheck)
		return
	}
	var texts, commands []string
	for _, c := range problems[:min(len(problems), capturesShown)] {
		texts = append(texts, captureText(c))
		commands = append(commands, c.Command)
	}
	if more := len(problems) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
		commands = append(commands, "observer capture list")
	}
	p.health.Degrade(captureCheck, strings.Join(texts, "; "), "run: "+strings.Join(commands, "; "))
}

// captureText names a capture and what does not fit.
func captureText(c postgres.Capture) string {
	return fmt.Sprintf("%s is captured as %s and %s: %s", c.Table, c.Entity, c.State, c.Problem)
}

// tellCaptures logs what is not told yet, and keeps that in told.
func (p *Pipeline) tellCaptures(told map[string]toldCapture, problems []postgres.Capture) {
	now := time.Now()
	there := map[string]bool{}
	for _, c := range problems {
		there[c.Table] = true
		if t := told[c.Table]; t.state == c.State && t.problem == c.Problem && now.Sub(t.at) < capturesRemind {
			continue
		}
		told[c.Table] = toldCapture{c.State, c.Problem, now}
		p.log.Warn("capture does not fit its table", slog.String("table", c.Table), slog.String("entity", c.Entity), slog.String("state", string(c.State)),
			slog.String("reason", c.Problem), slog.String("run", c.Command))
	}
	for table := range told {
		if !there[table] {
			delete(told, table)
			p.log.Info("capture fits its table again", slog.String("table", table))
		}
	}
}
