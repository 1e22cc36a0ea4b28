package cmd

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func (p *program) dlqStats() *cobra.Command {
	var selected selection
	var format *choice
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count dead letters by observer, action and class of error",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := selected.filter()
			if err != nil {
				return err
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, _ *config.Config) error {
				groups, err := letters.Stats(ctx, filter)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(listOf(groups, countOf(groups)))
				}
				return p.printGroups(groups)
			})
		},
	}
	selected.flags(cmd)
	format = formatFlag(cmd)
	return cmd
}

func countOf(groups []deadletter.Group) (n int) {
	for _, g := range groups {
		n += g.Count
	}
	return n
}

func (p *program) printGroups(groups []deadletter.Group) error {
	if len(groups) > 0 {
		rows := [][]string{{"OBSERVER", "ACTION", "CLASS", "COUNT", "RETRYING", "OLDEST", "NEWEST"}}
		for _, g := range groups {
			rows = append(rows, []string{
				orDash(g.Observer), orDash(g.Action), orDash(g.ErrorClass), strconv.Itoa(g.Count), strconv.Itoa(g.Retrying),
				g.Oldest.UTC().Format(time.RFC3339), g.Newest.UTC().Format(time.RFC3339),
			})
		}
		if err := p.printTable(rows); err != nil {
			return err
		}
	}
	p.printf("%d dead letters\n", countOf(groups))
	return nil
}
