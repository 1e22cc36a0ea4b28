package dispatch

import "github.com/fraiseql/observer/event"

// route is an observer with its actions.
type route struct {
	Observer
	actions []*action
}

// index finds the observers of an entity and event type without looking at the others. Lists keep the order of the
// configuration.
type index struct {
	byEntity map[string]map[event.Type][]*route
	anywhere map[event.Type][]*route // for entities that no observer names
}

func newIndex(routes []*route) *index {
	x := &index{byEntity: map[string]map[event.Type][]*route{}}
	for _, r := range routes {
		if r.Entity != "*" && x.byEntity[r.Entity] == nil {
			x.byEntity[r.Entity] = byType(routes, r.Entity)
		}
	}
	x.anywhere = byType(routes, "*")
	return x
}

func byType(routes []*route, entity string) map[event.Type][]*route {
	lists := map[event.Type][]*route{}
	for _, t := range event.Types() {
		for _, r := range routes {
			if (r.Entity == "*" || r.Entity == entity) && (r.Type == "" || r.Type == t) {
				lists[t] = append(lists[t], r)
			}
		}
	}
	return lists
}

func (x *index) find(e *event.Event) []*route {
	if lists, ok := x.byEntity[e.Entity]; ok {
		return lists[e.Type]
	}
	return x.anywhere[e.Type]
}
