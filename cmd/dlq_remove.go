package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func (p *program) dlqRemove() *cobra.Command {
	var all bool
	b := &bulk{verb: "remove", done: "removed", plan: deadletter.Store.PlanRemove, change: deadletter.Store.RemoveAll}
	cmd := &cobra.Command{
		Use:   "remove ID | --all",
		Short: "Remove a dead letter, or all that are selected: they are never delivered",
		Long: `Removes a dead letter, with the replay that may be parked for it. While that replay is in work it is refused. --format json
writes what was removed, event included. On a terminal it asks first.

--all removes all dead letters that the other flags select, except those that are being delivered again.`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == all || len(args) > 1 {
				return errors.New("name one dead letter, or write --all with flags that select: observer dlq remove ID | --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := b.filter(cmd)
			if err != nil {
				return err
			}
			if !all {
				return p.removeOne(cmd, args[0], b)
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, _ *config.Config) error {
				if err := b.look(ctx, letters, filter); err != nil {
					return err
				}
				b.report.NotReplayable = 0 // they are removed like others
				return b.run(ctx, p, letters, filter)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all that are selected")
	b.flags(cmd)
	return cmd
}

func (p *program) removeOne(cmd *cobra.Command, arg string, b *bulk) error {
	for _, name := range []string{"observer", "class", "after", "before", "limit"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s selects dead letters for --all: leave it out where an ID is named", name)
		}
	}
	id, err := letterID(arg)
	if err != nil {
		return err
	}
	return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, _ *config.Config) error {
		if b.dryRun {
			return p.previewRemoval(ctx, letters, id, b)
		}
		if !b.yes && p.interactive() { // whoever calls it from a script means it
			if err := p.confirm(false, fmt.Sprintf("remove dead letter %d?", id)); err != nil {
				return err
			}
		}
		removed, err := letters.Remove(ctx, id)
		if err != nil {
			return err
		}
		p.printf("removed %s\n", described(removed))
		if b.format.json() {
			return p.printJSON(removed)
		}
		return nil
	})
}

func (p *program) previewRemoval(ctx context.Context, letters deadletter.Store, id int64, b *bulk) error {
	letter, err := letters.Get(ctx, id)
	if err != nil {
		return err
	}
	if b.format.json() {
		return p.printJSON(letter)
	}
	_, err = fmt.Fprintf(p.out, "would remove %s\n", described(letter))
	return err
}

// described is one line about a dead letter.
func described(l *deadletter.Letter) string {
	text := fmt.Sprintf("dead letter %d: event %s of %s for %s", l.ID, l.EventID, l.Entity, target(l))
	if l.Retrying {
		text += ", and its parked replay"
	}
	return oneLine(text)
}
