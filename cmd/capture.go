package cmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/postgres"
)

func (p *program) captureCommand() *cobra.Command {
	return group("capture", "Install, list or remove change capture", p.captureAdd(), p.captureList(), p.captureRemove())
}

func (p *program) captureAdd() *cobra.Command {
	var spec postgres.CaptureSpec
	var format *choice
	cmd := &cobra.Command{
		Use:   "add TABLE",
		Short: "Capture the changes of a table; --replace changes how they are captured",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if spec.Bulk {
				return usagef("--bulk (statement triggers) is not supported yet: leave it out, rows are captured one by one")
			}
			spec.Table = args[0]
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, cfg *config.Config) error {
				report, err := postgres.AddCapture(ctx, db, spec)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(report)
				}
				p.printCapture(report)
				fmt.Fprintf(p.out, "next: %s\n", nextStep(cfg, report.Entity))
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Entity, "entity", "", "`NAME` of the entity in events (default: the table's name)")
	f.StringSliceVar(&spec.Key, "key", nil, "`COL`umns that identify a row, comma-separated (default: the primary key)")
	f.StringSliceVar(&spec.Columns, "columns", nil, "capture only these `COL`umns, comma-separated")
	f.StringSliceVar(&spec.Exclude, "exclude", nil, "capture all but these `COL`umns, comma-separated")
	f.BoolVar(&spec.NoBefore, "no-before", false, "keep no before-image of an UPDATE: its changes are unknown then")
	f.StringVar(&spec.Tenant, "tenant", "", "`COL`umn that holds the tenant's uuid")
	f.BoolVar(&spec.Replace, "replace", false, "replace another definition by which the table is captured now")
	f.BoolVar(&spec.Bulk, "bulk", false, "use statement triggers; refused by this version")
	cmd.MarkFlagsMutuallyExclusive("columns", "exclude")
	format = formatFlag(cmd)
	return cmd
}

// printCapture says how a table is captured, and what is not.
func (p *program) printCapture(r postgres.CaptureReport) {
	already := ""
	if r.Unchanged {
		already = "already "
	}
	fmt.Fprintf(p.out, "%s is %scaptured as entity %q\n", r.Table, already, r.Entity)
	for _, line := range []struct{ name, value string }{
		{"key", strings.Join(r.Key, ", ")},
		{"columns", strings.Join(r.Columns, ", ")},
		{"all columns but", strings.Join(r.Exclude, ", ")},
		{"tenant", r.Tenant},
	} {
		if line.value != "" {
			fmt.Fprintf(p.out, "  %s: %s\n", line.name, line.value)
		}
	}
	if r.NoBefore {
		fmt.Fprintln(p.out, "  before-images of an UPDATE are not kept")
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(p.out, "to know:")
	}
	for _, note := range r.Notes {
		fmt.Fprintf(p.out, "  - %s\n", note)
	}
}

// nextStep says what makes the captured changes reach something.
func nextStep(cfg *config.Config, entity string) string {
	file := cfg.File
	if file == "" {
		file = config.DefaultFile
	}
	if !cfg.Transport.RunExecutors { // a bridge: the observers are those of its workers
		return "observer run --config " + file
	}
	for _, o := range cfg.Observers {
		if o.Enabled && (o.Entity == entity || o.Entity == "*") {
			return "observer run --config " + file
		}
	}
	return fmt.Sprintf("add an observer with entity = %q to %s, then: observer run --config %[2]s", entity, file)
}

func (p *program) captureList() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the captured tables, and which of them no longer fit",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
				captures, err := postgres.ListCaptures(ctx, db)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(listOf(captures, len(captures)))
				}
				if len(captures) == 0 {
					p.printf("no table is captured; see: observer capture add --help\n")
					return nil
				}
				return p.printCaptures(captures)
			})
		},
	}
	format = formatFlag(cmd)
	return cmd
}

// printCaptures prints a table, and below it what does not fit and what to type.
func (p *program) printCaptures(captures []postgres.Capture) error {
	if err := p.printTable(captureRows(captures)); err != nil {
		return err
	}
	for _, c := range captures {
		if c.State != postgres.CaptureOK {
			fmt.Fprintf(p.out, "\n%s is %s: %s\n  run: %s\n", oneLine(c.Table), c.State, oneLine(c.Problem), oneLine(c.Command))
		}
	}
	return nil
}

func captureRows(captures []postgres.Capture) [][]string {
	rows := [][]string{{"TABLE", "ENTITY", "KEY", "COLUMNS", "BEFORE", "TENANT", "STATE"}}
	for _, c := range captures {
		columns, before := "all", "yes"
		switch {
		case len(c.Columns) > 0:
			columns = strings.Join(c.Columns, ",")
		case len(c.Exclude) > 0:
			columns = "all but " + strings.Join(c.Exclude, ",")
		}
		if !c.Before {
			before = "no"
		}
		rows = append(rows, []string{c.Table, c.Entity, strings.Join(c.Key, ","), columns, before, c.Tenant, string(c.State)})
	}
	return rows
}

func (p *program) captureRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove TABLE",
		Short: "Stop capturing a table, or forget one that is gone; what was captured stays in the log",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
				err := postgres.RemoveCapture(ctx, db, args[0])
				if err == nil {
					p.printf("%s is no longer captured\n", args[0])
				}
				return err
			})
		},
	}
}
