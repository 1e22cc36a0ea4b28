package cmd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

func (p *program) dlqShow() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter with its event and every attempt",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := letterID(args[0])
			if err != nil {
				return err
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters deadletter.Store, _ *config.Config) error {
				letter, err := letters.Get(ctx, id)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(letter)
				}
				return p.printDeadLetter(letter)
			})
		},
	}
	format = formatFlag(cmd)
	return cmd
}

func (p *program) printDeadLetter(l *deadletter.Letter) error {
	rows := [][]string{
		{"id", strconv.FormatInt(l.ID, 10)},
		{"state", state(l)},
		{"listener", l.Listener},
		{"observer", orDash(l.Observer)},
		{"action", orDash(l.Action)},
		{"entity", l.Entity},
		{"event", l.EventID},
		{"attempts", strconv.Itoa(l.Attempts)},
		{"first failed", l.FirstFailedAt.UTC().Format(time.RFC3339)},
		{"last failed", l.LastFailedAt.UTC().Format(time.RFC3339)},
		{"error", l.Error},
		{"error class", orDash(l.ErrorClass)},
	}
	if l.Retrying {
		rows = append(rows, []string{"replay", strconv.Itoa(l.Generation)}, []string{"next attempt", nextAttempt(l)},
			[]string{"last error", l.LastError}, []string{"last class", orDash(l.LastClass)})
	}
	if err := p.printTable(rows); err != nil {
		return err
	}
	for i, a := range l.History {
		replay := ""
		if a.Generation > 0 {
			replay = fmt.Sprintf("replay %d  ", a.Generation)
		}
		fmt.Fprintf(p.out, "attempt %d  %s%s  %s  %s\n", i+1, replay, a.At.UTC().Format(time.RFC3339), oneLine(orDash(a.Class)), oneLine(a.Error))
	}
	fmt.Fprintf(p.out, "event JSON:\n%s\n", l.Event)
	return nil
}
