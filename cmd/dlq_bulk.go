package cmd

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// bulk is a change of many dead letters.
type bulk struct {
	selection   selection
	limit       int
	dryRun, yes bool
	format      *choice

	verb, done string // "park", "parked"
	plan       func(deadletter.Store, context.Context, deadletter.Filter) ([]deadletter.Group, error)
	change     func(deadletter.Store, context.Context, deadletter.Filter, func(int)) (int, error)
	report     bulkReport
}

// bulkReport is the JSON of a bulk or of its dry run.
type bulkReport struct {
	DryRun        bool        `json:"dry_run"`
	Items         []bulkGroup `json:"items"` // what is selected
	Total         int         `json:"total"` // how many these are
	Done          int         `json:"done"`
	Retrying      int         `json:"retrying"`       // left alone: they are being delivered again
	NotReplayable int         `json:"not_replayable"` // left alone: they hold nothing that could be delivered
}

type bulkGroup struct {
	Observer   string `json:"observer"`
	Action     string `json:"action"`
	ErrorClass string `json:"error_class"`
	Count      int    `json:"count"`
}

func (b *bulk) flags(cmd *cobra.Command) {
	b.selection.flags(cmd)
	cmd.Flags().IntVar(&b.limit, "limit", 0, "at most `N`, those that failed first; without it all")
	cmd.Flags().BoolVar(&b.dryRun, "dry-run", false, "count what would be "+b.done+" and change nothing")
	cmd.Flags().BoolVar(&b.yes, "yes", false, "do it without asking; needed where nobody can be asked")
	b.format = formatFlag(cmd)
}

func (b *bulk) filter(cmd *cobra.Command) (deadletter.Filter, error) {
	filter, err := b.selection.filter()
	if err == nil && cmd.Flags().Changed("limit") && b.limit < 1 {
		err = usagef("--limit %d: write a number from 1", b.limit)
	}
	filter.Limit = b.limit
	return filter, err
}

// look fills the report with what is selected.
func (b *bulk) look(ctx context.Context, letters deadletter.Store, filter deadletter.Filter) error {
	all, err := letters.Stats(ctx, filter)
	if err != nil {
		return err
	}
	plan, err := b.plan(letters, ctx, filter)
	if err != nil {
		return err
	}
	b.report = bulkReport{DryRun: b.dryRun, Items: []bulkGroup{}, Total: countOf(plan)}
	for _, g := range plan {
		b.report.Items = append(b.report.Items, bulkGroup{g.Observer, g.Action, g.ErrorClass, g.Count})
	}
	for _, g := range all {
		b.report.Retrying += g.Retrying
		b.report.NotReplayable += g.NotReplayable
	}
	return nil
}

// run does what look has found, or shows it where that is all that is asked for.
func (b *bulk) run(ctx context.Context, p *program, letters deadletter.Store, filter deadletter.Filter) error {
	r := &b.report
	if b.dryRun {
		return b.preview(p)
	}
	if r.Total > 0 {
		if err := p.confirm(b.yes, fmt.Sprintf("%s %d dead letters?", b.verb, r.Total)); err != nil {
			return err
		}
		progress, finished := p.teller(
			func(n int) string { return fmt.Sprintf("%s %d of %d dead letters", b.done, n, r.Total) },
			func(n int) { p.jsonLog.Info("changing dead letters", slog.Int("done", n), slog.Int("total", r.Total)) })
		var err error
		r.Done, err = b.change(letters, ctx, filter, progress.at)
		finished()
		if err != nil {
			return fmt.Errorf("%s %d of %d dead letters, then: %w", b.done, r.Done, r.Total, err)
		}
	}
	p.printf("%s %d dead letters%s\n", b.done, r.Done, r.leftAlone())
	if b.format.json() {
		return p.printJSON(r)
	}
	return nil
}

func (b *bulk) preview(p *program) error {
	if b.format.json() {
		return p.printJSON(b.report)
	}
	if b.report.Total > 0 {
		rows := [][]string{{"OBSERVER", "ACTION", "CLASS", "COUNT"}}
		for _, g := range b.report.Items {
			rows = append(rows, []string{orDash(g.Observer), orDash(g.Action), orDash(g.ErrorClass), strconv.Itoa(g.Count)})
		}
		if err := p.printTable(rows); err != nil {
			return err
		}
	}
	p.printf("would have %s %d dead letters%s\n", b.done, b.report.Total, b.report.leftAlone())
	return nil
}

// leftAlone says what of the selection is not changed.
func (r *bulkReport) leftAlone() (text string) {
	if r.Retrying > 0 {
		text = fmt.Sprintf("; %d are being delivered again already", r.Retrying)
	}
	if r.NotReplayable > 0 {
		text += fmt.Sprintf("; %d hold nothing that could be delivered", r.NotReplayable)
	}
	return text
}
