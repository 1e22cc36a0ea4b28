package cmd

import (
	"context"
	"fmt"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline"
)

// dryRun prints one line a check.
func (p *program) dryRun(ctx context.Context, cfg *config.Config, plan *pipeline.Plan) error {
	failed := 0
	for _, c := range pipeline.DryRun(ctx, plan, p.logger(cfg)) {
		state, detail := "ok", c.Detail
		switch {
		case c.Note:
			state = "note"
		case c.Err != nil:
			state, detail = "FAILED", c.Err.Error()
			failed++
		}
		if _, err := fmt.Fprintf(p.out, "%-8s %-12s %s\n", state, c.Name, detail); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}
