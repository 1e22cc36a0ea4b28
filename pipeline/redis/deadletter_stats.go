package redis

import (
	"cmp"
	"context"
	"slices"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// Stats implements deadletter.Store.
func (l *DeadLetters) Stats(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	rows, err := l.selected(ctx, f)
	return groupsOf(rows), err
}

// PlanRetry implements deadletter.Store.
func (l *DeadLetters) PlanRetry(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	rows, err := l.fitting(ctx, f, (*letterRow).ready)
	return groupsOf(rows), err
}

// PlanRemove implements deadletter.Store.
func (l *DeadLetters) PlanRemove(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	rows, err := l.fitting(ctx, f, (*letterRow).atRest)
	return groupsOf(rows), err
}

func groupsOf(rows []letterRow) []deadletter.Group {
	type name struct{ observer, action, class string }
	places := map[name]int{}
	groups := []deadletter.Group{}
	for i := range rows {
		r := &rows[i]
		key := name{r.Observer, r.Action, r.ErrorClass}
		place, there := places[key]
		if !there {
			place = len(groups)
			places[key] = place
			groups = append(groups, deadletter.Group{
				Observer: r.Observer, Action: r.Action, ErrorClass: r.ErrorClass, Oldest: r.FirstFailedAt, Newest: r.LastFailedAt,
			})
		}
		add(&groups[place], r)
	}
	slices.SortFunc(groups, func(a, b deadletter.Group) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Action, b.Action), cmp.Compare(a.ErrorClass, b.ErrorClass))
	})
	return groups
}

func add(g *deadletter.Group, r *letterRow) {
	g.Count++
	if r.FirstFailedAt.Before(g.Oldest) {
		g.Oldest = r.FirstFailedAt
	}
	if r.LastFailedAt.After(g.Newest) {
		g.Newest = r.LastFailedAt
	}
	switch {
	case r.parked:
		g.Retrying++
	case r.ErrorClass == deadletter.ClassUnreadable:
		g.NotReplayable++
	}
}
