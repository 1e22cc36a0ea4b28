package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// DeadLetterGroup counts the dead letters of one observer, action and class.
type DeadLetterGroup struct {
	Observer   string    `json:"observer"` // "" stands for whole events
	Action     string    `json:"action"`
	ErrorClass string    `json:"error_class"`
	Count      int       `json:"count"`
	Oldest     time.Time `json:"oldest"` // the first failure of any
	Newest     time.Time `json:"newest"` // the last failure of any
	Retrying   int       `json:"retrying"`
	// NotReplayable are those at rest that can not be delivered again.
	NotReplayable int `json:"not_replayable"`
}

const deadLetterGroups = `select observer, action, error_class, count(*), min(first_failed_at), max(last_failed_at),
	count(*) filter (where retrying), count(*) filter (where not retrying and not replayable)
	from (select d.observer, d.action, d.error_class, d.first_failed_at, d.last_failed_at, ` + isReplayable + ` as replayable, ` + isRetrying + ` as retrying` +
	deadLetterFilter

const groupedBySize = ` group by observer, action, error_class order by count(*) desc, observer, action, error_class`

// Stats counts the selected dead letters by observer, action and class, most first. It knows no limit.
func (l *DeadLetters) Stats(ctx context.Context, f DeadLetterFilter) ([]DeadLetterGroup, error) {
	return l.groups(ctx, deadLetterGroups+`) d`+groupedBySize, l.selected(f)...)
}

// PlanRetry counts what RetryAll would park now.
func (l *DeadLetters) PlanRetry(ctx context.Context, f DeadLetterFilter) ([]DeadLetterGroup, error) {
	return l.plan(ctx, f, isReady)
}

// PlanRemove counts what RemoveAll would delete now.
func (l *DeadLetters) PlanRemove(ctx context.Context, f DeadLetterFilter) ([]DeadLetterGroup, error) {
	return l.plan(ctx, f, isAtRest)
}

func (l *DeadLetters) plan(ctx context.Context, f DeadLetterFilter, condition string) ([]DeadLetterGroup, error) {
	return l.groups(ctx, deadLetterGroups+` and `+condition+`
		order by d.first_failed_at, d.pk_observer_dead_letter limit nullif($6::bigint, 0)) d`+groupedBySize, l.selected(f, int64(f.Limit))...)
}

func (l *DeadLetters) groups(ctx context.Context, query string, args ...any) ([]DeadLetterGroup, error) {
	rows, err := l.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, wrap("count dead letters", err)
	}
	groups, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DeadLetterGroup])
	for i := range groups {
		groups[i].Oldest, groups[i].Newest = groups[i].Oldest.UTC(), groups[i].Newest.UTC()
	}
	return groups, wrap("count dead letters", err)
}
