package pipeline

import (
	"context"
	"log/slog"
	"time"
)

// Dead letters stay until somebody delivers or removes them. Beyond these bounds the log asks for it.
const (
	manyDeadLetters   = 1000
	oldDeadLetter     = 7 * 24 * time.Hour
	unresolvedEvery   = time.Minute    // how often their age is read
	unresolvedReminds = 24 * time.Hour // how often the log tells of the same
)

// watchDeadLetters keeps the age of the oldest dead letter fresh and warns, at most once a day, when there are many or old
// ones, until ctx ends. Readiness knows nothing of it: the process does its work.
func (p *Pipeline) watchDeadLetters(ctx context.Context, ask func(context.Context) (n int, oldest time.Duration, err error)) {
	var told time.Time
	for {
		patience, cancel := context.WithTimeout(ctx, statsEvery)
		n, oldest, err := ask(patience)
		cancel()
		if err != nil {
			p.log.Debug("dead letters not counted", slog.Any("error", err))
		} else {
			p.stats.deadAge.Store(int64(oldest))
			if (n > manyDeadLetters || oldest > oldDeadLetter) && (told.IsZero() || time.Since(told) >= unresolvedReminds) {
				told = time.Now()
				p.log.Warn("dead letters wait for a decision and are kept until there is one: see observer dlq stats, then dlq retry-all or dlq remove",
					slog.Int("dead_letters", n), slog.Duration("oldest", oldest.Round(time.Second)))
			}
		}
		if !pause(ctx, unresolvedEvery) {
			return
		}
	}
}
