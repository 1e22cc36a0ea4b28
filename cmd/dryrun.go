package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline"
)

// checkLine is one check of --dry-run, as it is shown.
type checkLine struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, note or failed
	Detail string `json:"detail"`
}

// dryRun prints one line a check.
func (p *program) dryRun(ctx context.Context, c *compiled, asJSON bool) error {
	failed := 0
	var lines []checkLine
	for _, check := range pipeline.DryRun(ctx, c.plan, c.log) {
		line := checkLine{check.Name, "ok", check.Detail}
		switch {
		case check.Err != nil:
			line.Status, line.Detail = "failed", check.Err.Error()
			failed++
		case check.Note:
			line.Status = "note"
		}
		lines = append(lines, line)
	}
	if err := p.printChecks(lines, failed == 0, asJSON); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func (p *program) printChecks(lines []checkLine, ok, asJSON bool) error {
	if asJSON {
		return p.printJSON(struct {
			OK     bool        `json:"ok"`
			Checks []checkLine `json:"checks"`
		}{ok, lines})
	}
	for _, line := range lines {
		state := line.Status
		if state == "failed" {
			state = "FAILED"
		}
		if _, err := fmt.Fprintf(p.out, "%-8s %-12s %s\n", state, line.Name, line.Detail); err != nil {
			return err
		}
	}
	return nil
}

// reportUnchecked prints as JSON that the configuration is too wrong to check anything else.
func (p *program) reportUnchecked(err error) error {
	problems, ok := errors.AsType[*config.Problems](err)
	if !ok {
		return err
	}
	var lines []checkLine
	for _, problem := range problems.List {
		lines = append(lines, checkLine{"config", "failed", problem.String()})
	}
	if err := p.printChecks(lines, false, true); err != nil {
		return err
	}
	return &shownError{err}
}
