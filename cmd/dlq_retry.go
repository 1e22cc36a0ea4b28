package cmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/postgres"
)

func (p *program) dlqRetry() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "retry ID",
		Short: "Deliver a dead letter again; it goes when that has succeeded",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := letterID(args[0])
			if err != nil {
				return err
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, cfg *config.Config) error {
				letter, err := letters.Get(ctx, id)
				if err != nil {
					return err
				}
				if err := letter.Replayable(); err != nil {
					return err
				}
				p.warnUndeclared(cfg, letter.Observer, letter.Action)
				if dryRun {
					if err := checkReplay(ctx, letters, letter); err != nil {
						return err
					}
					return p.previewRetry(letter)
				}
				return p.retry(ctx, letters, letter)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be delivered again and change nothing")
	return cmd
}

// checkReplay is what a store checks before it parks a replay, where it does.
func checkReplay(ctx context.Context, letters deadletter.Store, l *deadletter.Letter) error {
	if store, ok := letters.(*postgres.DeadLetters); ok {
		return postgres.CheckIdentity(ctx, store.DB, l.Listener)
	}
	return nil
}

// warnUndeclared warns when the file lacks the observer and action of a dead letter. Without a file nothing is known.
func (p *program) warnUndeclared(cfg *config.Config, observer, action string) {
	declared := p.configFile() == "" || observer == "" || slices.ContainsFunc(cfg.Observers, func(o config.Observer) bool {
		return o.Enabled && o.Name == observer && slices.ContainsFunc(o.Actions, func(a config.Action) bool { return a.Name == action })
	})
	if !declared {
		p.printf("warning: the configuration file declares no enabled observer %s with an action %s: where it is like this, the delivery becomes a dead letter again\n",
			observer, action)
	}
}

func (p *program) previewRetry(l *deadletter.Letter) error {
	if l.Retrying {
		p.printf("dead letter %d is being delivered again already\n", l.ID)
		return nil
	}
	_, err := fmt.Fprintf(p.out, "would deliver event %s of %s to %s again\n", l.EventID, l.Entity, target(l))
	return err
}

// target is where a dead letter was to go.
func target(l *deadletter.Letter) string {
	if l.Observer == "" {
		return "the observers that match it"
	}
	return l.Observer + "/" + l.Action
}

// retry parks a replay and says what is going to happen with it.
func (p *program) retry(ctx context.Context, letters deadletter.Store, l *deadletter.Letter) error {
	parked, err := letters.Retry(ctx, l.ID)
	if err != nil {
		return err
	}
	if !parked {
		p.printf("dead letter %d is being delivered again already\n", l.ID)
		return nil
	}
	idle, err := letters.Idle(ctx)
	switch {
	case err != nil:
		return err
	case slices.Contains(idle, l.Listener):
		p.printf("dead letter %d is parked: a process of %s delivers it, and none works now\n", l.ID, l.Listener)
	default:
		p.printf("dead letter %d is parked: a process of %s delivers it now\n", l.ID, l.Listener)
	}
	return nil
}
