package nats

import (
	"cmp"
	"context"
	"slices"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// Stats implements deadletter.Store. It knows no limit.
func (l *DeadLetters) Stats(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	list, waiting, err := l.withWaiting(ctx, f)
	if err != nil {
		return nil, wrap("count dead letters", err)
	}
	return groups(list, waiting), nil
}

// PlanRetry implements deadletter.Store.
func (l *DeadLetters) PlanRetry(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	list, err := l.atRest(ctx, f, (*record).replayable)
	return groups(list, nil), wrap("count dead letters", err)
}

// PlanRemove implements deadletter.Store.
func (l *DeadLetters) PlanRemove(ctx context.Context, f deadletter.Filter) ([]deadletter.Group, error) {
	list, err := l.atRest(ctx, f, (*record).any)
	return groups(list, nil), wrap("count dead letters", err)
}

func groups(list []*record, waiting map[string]struct{}) []deadletter.Group {
	index := map[[3]string]int{}
	var all []deadletter.Group
	for _, r := range list {
		key := [3]string{r.Observer, r.Action, r.Class}
		i, there := index[key]
		if !there {
			i = len(all)
			index[key] = i
			all = append(all, deadletter.Group{Observer: r.Observer, Action: r.Action, ErrorClass: r.Class, Oldest: r.First.UTC(), Newest: r.Last.UTC()})
		}
		g := &all[i]
		g.Count++
		if r.First.Before(g.Oldest) {
			g.Oldest = r.First.UTC()
		}
		if r.Last.After(g.Newest) {
			g.Newest = r.Last.UTC()
		}
		switch {
		case r.isWaiting(waiting):
			g.Retrying++
		case !r.replayable():
			g.NotReplayable++
		}
	}
	slices.SortFunc(all, func(a, b deadletter.Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Action, b.Action), cmp.Compare(a.ErrorClass, b.ErrorClass))
	})
	return all
}
