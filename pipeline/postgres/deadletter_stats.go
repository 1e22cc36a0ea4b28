package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

const deadLetterGroups = `select observer, action, error_class, count(*), min(first_failed_at), max(last_failed_at),
	count(*) filter (where retrying), count(*) filter (where not retrying and not replayable)
	from (select d.observer, d.action, d.error_class, d.first_failed_at, d.last_failed_at, ` + isReplayable + ` as replayable, ` + isRetrying + ` as retrying` +
	deadLetterFilter

const groupedBySize = ` group by observer, action, error_class order by count(*) desc, observer, action, error_class`

// Stats counts the selected dead letters by observer, action and class, most first. It knows no limit.
func (l *DeadLetters) Stats(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	return l.groups(ctx, deadLetterGroups+`) d`+groupedBySize, l.selected(f)...)
}

// Waiting returns how many dead letters there are, and how long ago the oldest of them failed first.
func (l *DeadLetters) Waiting(ctx context.Context) (n int, oldest time.Duration, err error) {
	var micros int64
	err = l.DB.QueryRow(ctx, `select count(*), coalesce(extract(epoch from clock_timestamp() - min(first_failed_at)) * 1000000, 0)::bigint`+deadLetterFilter,
		l.selected(deadletter.Filter{})...).Scan(&n, &micros)
	return n, max(time.Duration(micros)*time.Microsecond, 0), wrap("count dead letters", err)
}

// PlanRetry counts what RetryAll would park now, and is refused where that is.
func (l *DeadLetters) PlanRetry(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	if err := l.checkReplays(ctx, f); err != nil {
		return nil, wrap("retry dead letters", err)
	}
	return l.plan(ctx, f, isReady)
}

// PlanRemove counts what RemoveAll would delete now.
func (l *DeadLetters) PlanRemove(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	return l.plan(ctx, f, isAtRest)
}

func (l *DeadLetters) plan(ctx context.Context, f deadletter.Filter, condition string) ([]deadletter.Group, error) {
	return l.groups(ctx, deadLetterGroups+` and `+condition+`
		order by d.first_failed_at, d.pk_observer_dead_letter limit nullif($6::bigint, 0)) d`+groupedBySize, l.selected(f, int64(f.Limit))...)
}

func (l *DeadLetters) groups(ctx context.Context, query string, args ...any) ([]deadletter.Group, error) {
	rows, err := l.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, wrap("count dead letters", err)
	}
	groups, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deadletter.Group])
	for i := range groups {
		groups[i].Oldest, groups[i].Newest = groups[i].Oldest.UTC(), groups[i].Newest.UTC()
	}
	return groups, wrap("count dead letters", err)
}
