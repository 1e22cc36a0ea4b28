package cmd

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/postgres"
)

func (p *program) checkpointCommand() *cobra.Command {
	return group("checkpoint", "Show and move reading positions", p.checkpointList(), p.checkpointSet(), p.checkpointRemove())
}

func (p *program) checkpointList() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the reading positions and how far each is behind",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
				checkpoints, err := postgres.ListCheckpoints(ctx, db)
				if err != nil {
					return err
				}
				if format.json() {
					return p.printJSON(listOf(checkpoints, len(checkpoints)))
				}
				if len(checkpoints) == 0 {
					p.printf("there is no reading position: the first observer run creates one\n")
					return nil
				}
				return p.printTable(checkpointRows(checkpoints))
			})
		},
	}
	format = formatFlag(cmd)
	return cmd
}

func checkpointRows(checkpoints []postgres.Checkpoint) [][]string {
	rows := [][]string{{"NAME", "BACKLOG", "PENDING", "UPDATED", "STATE"}}
	for _, c := range checkpoints {
		backlog, state := strconv.FormatInt(c.Backlog, 10), "ok"
		if c.Foreign {
			backlog, state = "?", "of "+c.Origin+": run "+c.Repair()
		}
		rows = append(rows, []string{c.Name, backlog, strconv.Itoa(c.Pending), c.UpdatedAt.UTC().Format(time.RFC3339), state})
	}
	return rows
}

func (p *program) checkpointSet() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "set NAME --to now|beginning|TIMESTAMP",
		Short: "Move a reading position, or create it; a running observer follows",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := time.Parse(time.RFC3339, to); err != nil && to != "now" && to != "beginning" {
				return usagef("--to %q is no position: write now, beginning, or an RFC 3339 time such as 2026-01-31T12:00:00Z", to)
			}
			if args[0] == "" {
				return usagef("the name is empty: write the listener_name, see: observer checkpoint list")
			}
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, cfg *config.Config) error {
				configured := cfg.Transport.Postgres.ListenerName
				if cfg.Transport.RunBridge {
					configured = cfg.Transport.Bridge.TransportName
				}
				err := postgres.CheckListener(ctx, db, args[0], configured)
				if err == nil {
					err = postgres.SetCheckpoint(ctx, db, args[0], to)
				}
				if err == nil {
					p.printf("checkpoint %s is set to %s\n", args[0], to)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`POSITION`: now, beginning, or an RFC 3339 time")
	_ = cmd.MarkFlagRequired("to") // the flag exists: the line above made it
	return cmd
}

func (p *program) checkpointRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a reading position: its observer delivers the whole log again",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
				err := postgres.RemoveCheckpoint(ctx, db, args[0])
				if err == nil {
					p.printf("checkpoint %s is removed\n", args[0])
				}
				return err
			})
		},
	}
}
