package cmd

import (
	"context"
	"fmt"
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
		rows := [][]string{{"ID", "OBSERVER", "ACTION", "ENTITY", "ATTEMPTS", "LAST FAILED", "STATE", "ERROR"}}
		for _, l := range items {
			rows = append(rows, []string{
				strconv.FormatInt(l.ID, 10), orDash(l.Observer), orDash(l.Action), l.Entity, strconv.Itoa(l.Attempts),
				l.LastFailedAt.UTC().Format(time.RFC3339), state(&l), l.Error,
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
	err := p.printTable([][]string{
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
	})
	if err != nil {
		return err
	}
	for i, a := range l.History {
		fmt.Fprintf(p.out, "attempt %d  %s  %s\n", i+1, a.At.UTC().Format(time.RFC3339), oneLine(a.Error))
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
			return p.withDeadLetters(cmd, func(ctx context.Context, letters *postgres.DeadLetters) error {
				if dryRun {
					return p.previewRetry(ctx, letters, id)
				}
				parked, err := letters.Retry(ctx, id)
				switch {
				case err != nil:
					return err
				case !parked:
					p.printf("dead letter %d is being delivered again already\n", id)
				default:
					p.printf("dead letter %d is delivered again by the running observer\n", id)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be delivered again and change nothing")
	return cmd
}

func (p *program) previewRetry(ctx context.Context, letters *postgres.DeadLetters, id int64) error {
	l, err := letters.Get(ctx, id)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "would deliver event %s of %s to %s/%s again\n", l.EventID, l.Entity, orDash(l.Observer), orDash(l.Action))
	return err
}
