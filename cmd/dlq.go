package cmd

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/postgres"
	"github.com/fraiseql/observer/pipeline/redis"
)

func (p *program) dlqCommand() *cobra.Command {
	return group("dlq", "Look at dead letters, deliver them again, remove them",
		p.dlqList(), p.dlqShow(), p.dlqStats(), p.dlqRetry(), p.dlqRetryAll(), p.dlqRemove())
}

// withDeadLetters runs work on the dead letters of the configured transport, of every listener: a renamed one hides none.
func (p *program) withDeadLetters(cmd *cobra.Command, work func(context.Context, deadletter.Store, *config.Config) error) error {
	cfg, err := p.load(cmd, config.NeedsDatabase)
	if err != nil {
		return err
	}
	if cfg.Transport.Transport == "nats" {
		return onNATS(cmd.Context(), cfg, func(ctx context.Context, _ *natsconn.Conn, js jetstream.JetStream) error {
			t := cfg.Transport.NATS
			letters, err := nats.OpenDeadLetters(ctx, js, nats.DeadLettersConfig{Stream: t.StreamName, Consumer: t.ConsumerName, Replicas: t.JetStream.Replicas})
			if err != nil {
				return err
			}
			return work(ctx, letters, cfg)
		})
	}
	if cfg.Transport.Transport == "redis" {
		return onRedis(cmd.Context(), cfg, func(ctx context.Context, client goredis.UniversalClient) error {
			t := cfg.Transport.Redis
			return work(ctx, &redis.DeadLetters{Client: client, Stream: t.Stream, Group: t.ConsumerGroup}, cfg)
		})
	}
	return p.onDatabase(cmd.Context(), cfg, func(ctx context.Context, db *pgxpool.Pool, cfg *config.Config) error {
		return work(ctx, &postgres.DeadLetters{DB: db}, cfg)
	})
}

// selection is which dead letters a command is about.
type selection struct{ observer, class, after, before string }

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.observer, "observer", "", "only those of the observer `NAME`")
	f.StringVar(&s.class, "class", "", "only those whose error is of this `CLASS`, such as http_503")
	f.StringVar(&s.after, "after", "", "only those that failed last after this RFC 3339 `TIME`")
	f.StringVar(&s.before, "before", "", "only those that failed last before this RFC 3339 `TIME`")
}

func (s *selection) filter() (f deadletter.Filter, err error) {
	f.Observer, f.Class = s.observer, s.class
	for _, t := range []struct {
		flag, value string
		into        *time.Time
	}{{"after", s.after, &f.After}, {"before", s.before, &f.Before}} {
		if t.value == "" {
			continue
		}
		if *t.into, err = time.Parse(time.RFC3339, t.value); err != nil {
			return f, usagef("--%s %q is no time: write it like 2026-01-31T12:00:00Z", t.flag, t.value)
		}
	}
	return f, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func state(l *deadletter.Letter) string {
	if l.Retrying {
		return "retrying"
	}
	return "dead"
}

// nextAttempt is when a replay is tried next.
func nextAttempt(l *deadletter.Letter) string {
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
