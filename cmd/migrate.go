package cmd

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/postgres"
)

type migrateFlags struct {
	print, down, yes      bool
	grantApp, grantWorker string
}

func (p *program) migrateCommand() *cobra.Command {
	var flags migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade the database objects",
		Long: `Creates or upgrades the objects that observer needs in Postgres. It may run any number of times, and from several
processes at once. --print writes the same as SQL, for a DBA to read and run; it needs no database.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.migrate(cmd, &flags) },
	}
	cmd.Flags().BoolVar(&flags.print, "print", false, "write the SQL to standard output and change nothing")
	cmd.Flags().BoolVar(&flags.down, "down", false, "remove what is ours, with parked deliveries and dead letters, and nothing else; needs --yes")
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "with --down: do it")
	cmd.Flags().StringVar(&flags.grantApp, "grant-app", "", "give `ROLE` what an application needs to emit events and to capture tables that it owns")
	cmd.Flags().StringVar(&flags.grantWorker, "grant-worker", "", "give `ROLE` what observer run needs")
	for _, grant := range []string{"grant-app", "grant-worker"} {
		cmd.MarkFlagsMutuallyExclusive("print", "down", grant)
	}
	return cmd
}

func (p *program) migrate(cmd *cobra.Command, flags *migrateFlags) error {
	for _, name := range []string{"grant-app", "grant-worker"} {
		if f := cmd.Flag(name); f.Changed && f.Value.String() == "" {
			return usagef("--%s is empty: name a role", name)
		}
	}
	switch {
	case flags.yes && !flags.down:
		return usagef("--yes belongs to --down")
	case flags.down && !flags.yes:
		return usagef("--down removes capture, reading positions, parked deliveries and dead letters from the database: add --yes to do it")
	case flags.print:
		return postgres.PrintMigrations(p.out)
	case flags.down:
		return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, _ *config.Config) error {
			err := postgres.MigrateDown(ctx, db)
			if err == nil {
				p.printf("database objects are removed\n")
			}
			return err
		})
	}
	return p.withDatabase(cmd, func(ctx context.Context, db *pgxpool.Pool, cfg *config.Config) error {
		if err := postgres.Migrate(ctx, db, p.logger(cfg)); err != nil {
			return err
		}
		p.printf("database objects are up to date\n")
		return p.grant(ctx, db, flags)
	})
}

func (p *program) grant(ctx context.Context, db *pgxpool.Pool, flags *migrateFlags) error {
	for _, g := range []struct {
		role, purpose string
		give          func(context.Context, postgres.DB, string) error
	}{
		{flags.grantApp, "emit events", postgres.GrantApp},
		{flags.grantWorker, "run observer", postgres.GrantWorker},
	} {
		if g.role == "" {
			continue
		}
		if err := g.give(ctx, db, g.role); err != nil {
			return err
		}
		p.printf("role %s may %s\n", g.role, g.purpose)
	}
	return nil
}
