package dispatch

import (
	"fmt"
	"sync/atomic"

	"github.com/fraiseql/observer/event"
)

// route is an observer with its actions.
type route struct {
	Observer
	actions []*action
	order   int     // in the configuration
	lists   []*list // in which a group has it

	looked  atomic.Int64 // events for which its group found it
	counted int64        // events that Skipped was told of; guarded by skips.mu
}

// index finds the observers of an entity and event type without looking at the others.
type index struct {
	byEntity map[string]map[event.Type]*list
	anywhere map[event.Type]*list // for entities that no observer names
	skips    skips
}

func newIndex(routes []*route) *index {
	x := &index{byEntity: map[string]map[event.Type]*list{}}
	for i, r := range routes {
		r.order = i
	}
	for _, r := range routes {
		if r.Entity != "*" && x.byEntity[r.Entity] == nil {
			x.byEntity[r.Entity] = byType(routes, r.Entity)
		}
	}
	x.anywhere = byType(routes, "*")
	x.skips.routes = routes
	return x
}

func byType(routes []*route, entity string) map[event.Type]*list {
	lists := map[event.Type]*list{}
	for _, t := range event.Types() {
		var fitting []*route
		for _, r := range routes {
			if (r.Entity == "*" || r.Entity == entity) && (r.Type == "" || r.Type == t) {
				fitting = append(fitting, r)
			}
		}
		if fitting != nil {
			lists[t] = newList(fitting)
		}
	}
	return lists
}

// find returns nil when nobody wants events such as e.
func (x *index) find(e *event.Event) *list {
	if lists, ok := x.byEntity[e.Entity]; ok {
		return lists[e.Type]
	}
	return x.anywhere[e.Type]
}

// list holds the observers of one entity and event type, in the order of the configuration. Those whose conditions require
// texts at the same path are in a group, which finds the few that an event may match without looking at the others.
type list struct {
	rest   []*route
	groups []*group
	seen   atomic.Int64 // events, where there are groups
}

// group holds observers by the text that they require at one path.
type group struct {
	path   []string
	byText map[string][]*route
}

// leastGroup is how many observers a group is worth its own cost for.
const leastGroup = 2

func newList(routes []*route) *list {
	l, members := &list{}, map[string]int{}
	for _, r := range routes {
		members[r.requires()]++
	}
	groups := map[string]*group{}
	for _, r := range routes {
		at := r.requires()
		if at == "" || members[at] < leastGroup {
			l.rest = append(l.rest, r)
			continue
		}
		g := groups[at]
		if g == nil {
			g = &group{path: r.Requires.Path, byText: map[string][]*route{}}
			groups[at] = g
			l.groups = append(l.groups, g)
		}
		g.byText[r.Requires.Text] = append(g.byText[r.Requires.Text], r)
		r.lists = append(r.lists, l)
	}
	return l
}

// requires names the path of what r requires, "" when it requires nothing.
func (r *route) requires() string {
	if r.Requires == nil {
		return ""
	}
	return fmt.Sprintf("%q", r.Requires.Path)
}

// candidates returns those that e may match. The others of the group it does not.
func (g *group) candidates(e *event.Event) []*route {
	raw, _ := e.Raw(g.path...)
	found := g.byText[event.Text(raw)]
	for _, r := range found {
		r.looked.Add(1)
	}
	return found
}
