package cmd

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func (p *program) dlqList() *cobra.Command {
	var selected selection
	var limit, offset int
	var format *choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, latest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := selected.filter()
			switch {
			case err != nil:
				return err
			case limit < 1:
				return usagef("--limit %d: write a number from 1", limit)
			case offset < 0:
				return usagef("--offset %d: write a number from 0", offset)
			}
			filter.Limit, filter.Offset = limit, offset
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, _ *config.Config) error {
				items, total, err := letters.List(ctx, filter)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(listOf(items, total))
				}
				return p.printDeadLetters(items, total)
			})
		},
	}
	selected.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most `N`")
	cmd.Flags().IntVar(&offset, "offset", 0, "skip the first `N`")
	format = formatFlag(cmd)
	return cmd
}

func (p *program) printDeadLetters(items []deadletter.Letter, total int) error {
	if len(items) > 0 {
		rows := [][]string{{"ID", "OBSERVER", "ACTION", "ENTITY", "ATTEMPTS", "LAST FAILED", "STATE", "NEXT ATTEMPT", "CLASS", "ERROR"}}
		for _, l := range items {
			rows = append(rows, []string{
				strconv.FormatInt(l.ID, 10), orDash(l.Observer), orDash(l.Action), l.Entity, strconv.Itoa(l.Attempts),
				l.LastFailedAt.UTC().Format(time.RFC3339), state(&l), nextAttempt(&l), orDash(l.LastClass), l.LastError,
			})
		}
		if err := p.printTable(rows); err != nil {
			return err
		}
	}
	p.printf("%d of %d dead letters\n", len(items), total)
	return nil
}
