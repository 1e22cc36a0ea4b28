package cmd

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline/postgres"
)

// withDatabase runs a command that works on the database and ends by itself: it does not wait for a server that does
// not answer. What work returns is told with what to do about it.
func (p *program) withDatabase(cmd *cobra.Command, work func(context.Context, *pgxpool.Pool, *config.Config) error) error {
	cfg, err := p.load(cmd, config.NeedsDatabase)
	if err != nil {
		return err
	}
	return p.onDatabase(cmd.Context(), cfg, work)
}

func (p *program) onDatabase(ctx context.Context, cfg *config.Config, work func(context.Context, *pgxpool.Pool, *config.Config) error) error {
	if cfg.Transport.Postgres.URL == "" {
		return usagef("no database is named: set transport.postgres.url, or DATABASE_URL, to postgres://user:password@host:5432/database")
	}
	pool, err := postgres.Connect(ctx, cfg.Transport.Postgres, p.logger(cfg))
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Diagnose(work(ctx, pool, cfg))
}
