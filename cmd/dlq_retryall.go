package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func (p *program) dlqRetryAll() *cobra.Command {
	b := &bulk{verb: "park", done: "parked", plan: deadletter.Store.PlanRetry, change: deadletter.Store.RetryAll}
	cmd := &cobra.Command{
		Use:   "retry-all",
		Short: "Deliver the selected dead letters again, those that failed first first",
		Long: `Parks the selected dead letters, those that failed first first, for the process that leads their listener. Each goes when its
delivery has succeeded. Those that are being delivered again already are left alone, and those that hold nothing that could be
delivered. It may be interrupted and run again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := b.filter(cmd)
			if err != nil {
				return err
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, cfg *config.Config) error {
				if err := b.look(ctx, letters, filter); err != nil {
					return err
				}
				p.warnUndeclaredIn(cfg, b.report.Items)
				if err := b.run(ctx, p, letters, filter); err != nil || b.report.Done == 0 {
					return err
				}
				return p.tellIdle(ctx, letters)
			})
		},
	}
	b.flags(cmd)
	return cmd
}

// warnUndeclaredIn warns once for each action.
func (p *program) warnUndeclaredIn(cfg *config.Config, items []bulkGroup) {
	told := map[bulkGroup]bool{}
	for _, g := range items {
		if key := (bulkGroup{Observer: g.Observer, Action: g.Action}); !told[key] {
			told[key] = true
			p.warnUndeclared(cfg, g.Observer, g.Action)
		}
	}
}

// tellIdle tells which parked replays nobody delivers now.
func (p *program) tellIdle(ctx context.Context, letters deadletter.Store) error {
	idle, err := letters.Idle(ctx)
	for _, listener := range idle {
		p.printf("no process leads %s now: the one that does next delivers what is parked for it\n", listener)
	}
	return err
}
