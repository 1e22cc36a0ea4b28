package cmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/postgres"
)

func (p *program) dlqCommand() *cobra.Command {
	return group("dlq", "Look at dead letters and deliver them again", p.dlqList(), p.dlqShow(), p.dlqRetry())
}

func (p *program) withDeadLetters(cmd *cobra.Command, work func(context.Context, *postgres.DeadLetters) error) error {
	return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
		return work(ctx, &postgres.DeadLetters{DB: db}) // those of every listener: a renamed one hides none
	})
}

func (p *program) dlqList() *cobra.Command {
	var filter postgres.DeadLetterFilter
	var after string
	var format *choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, latest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFilter(&filter, after); err != nil {
				return err
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, letters *postgres.DeadLetters) error {
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
	f := cmd.Flags()
	f.StringVar(&filter.Observer, "observer", "", "only those of the observer `NAME`")
	f.StringVar(&after, "after", "", "only those that failed last after this RFC 3339 `TIME`")
	f.IntVar(&filter.Limit, "limit", 100, "list at most `N`")
	f.IntVar(&filter.Offset, "offset", 0, "skip the first `N`")
	format = formatFlag(cmd)
	return cmd
}

func checkFilter(filter *postgres.DeadLetterFilter, after string) (err error) {
	switch {
	case filter.Limit < 1:
		return usagef("--limit %d: write a number from 1", filter.Limit)
	case filter.Offset < 0:
		return usagef("--offset %d: write a number from 0", filter.Offset)
	case after == "":
		return nil
	}
	if filter.After, err = time.Parse(time.RFC3339, after); err != nil {
		return usagef("--after %q is no time: write it like 2026-01-31T12:00:00Z", after)
	}
	return nil
}

func (p *program) printDeadLetters(items []postgres.DeadLetter, total int) error {
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func state(l *postgres.DeadLetter) string {
	if l.Retrying {
		return "retrying"
	}
	return "dead"
}

// nextAttempt is when a replay is tried next.
func nextAttempt(l *postgres.DeadLetter) string {
	switch {
	case l.NextAttempt.IsZero():
		return "-"
	case l.NextAttempt.Before(time.Now()):
		return "due"
	}
	return l.NextAttempt.UTC().Format(time.RFC3339)
}

// letterID reads the ID of a dead letter.
func letterID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id < 1 {
		return 0, usagef("%q is not the ID of a dead letter: write the number that observer dlq list shows", arg)
	}
	return id, nil
}

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
			return p.withDeadLetters(cmd, func(ctx context.Context, letters *postgres.DeadLetters) error {
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

func (p *program) printDeadLetter(l *postgres.DeadLetter) error {
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
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, cfg *config.Config) error {
				letters := &postgres.DeadLetters{DB: db}
				letter, err := letters.Get(ctx, id)
				if err != nil {
					return err
				}
				if err := letter.Replayable(); err != nil {
					return err
				}
				if !p.declares(cfg, letter) {
					p.printf("warning: the configuration file declares no enabled observer %s with an action %s: where it is like this, the delivery becomes a dead letter again\n",
						letter.Observer, letter.Action)
				}
				if dryRun {
					return p.previewRetry(letter)
				}
				return p.retry(ctx, letters, letter)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be delivered again and change nothing")
	return cmd
}

// declares reports whether the file has the observer and action of a dead letter. Without a file nothing is known.
func (p *program) declares(cfg *config.Config, l *postgres.DeadLetter) bool {
	return p.configFile() == "" || l.Observer == "" || slices.ContainsFunc(cfg.Observers, func(o config.Observer) bool {
		return o.Enabled && o.Name == l.Observer && slices.ContainsFunc(o.Actions, func(a config.Action) bool { return a.Name == l.Action })
	})
}

func (p *program) previewRetry(l *postgres.DeadLetter) error {
	if l.Retrying {
		p.printf("dead letter %d is being delivered again already\n", l.ID)
		return nil
	}
	to := "the observers that match it"
	if l.Observer != "" {
		to = l.Observer + "/" + l.Action
	}
	_, err := fmt.Fprintf(p.out, "would deliver event %s of %s to %s again\n", l.EventID, l.Entity, to)
	return err
}

// retry parks a replay and says what is going to happen with it.
func (p *program) retry(ctx context.Context, letters *postgres.DeadLetters, l *postgres.DeadLetter) error {
	parked, err := letters.Retry(ctx, l.ID)
	if err != nil {
		return err
	}
	if !parked {
		p.printf("dead letter %d is being delivered again already\n", l.ID)
		return nil
	}
	led, err := postgres.Led(ctx, letters.DB, l.Listener)
	switch {
	case err != nil:
		return err
	case led:
		p.printf("dead letter %d is parked: the process that leads %s delivers it now\n", l.ID, l.Listener)
	default:
		p.printf("dead letter %d is parked: the process that leads %s delivers it; none leads now\n", l.ID, l.Listener)
	}
	return nil
}
