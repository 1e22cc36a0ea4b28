package dispatch

import (
	"slices"

	"github.com/fraiseql/observer/event"
)

// Requirement is a text that an event must have at a path, as [event.Event.Raw] finds and [event.Text] reads it.
type Requirement struct {
	Path []string
	Text string
}

// match returns the observers that want e, in the order of the configuration.
func (d *Dispatcher) match(e *event.Event) []*route {
	l := d.index.find(e)
	if l == nil {
		return nil
	}
	wanted := evaluate(nil, l.rest, e)
	if len(l.groups) == 0 {
		return wanted
	}
	for _, g := range l.groups {
		wanted = evaluate(wanted, g.candidates(e), e)
	}
	l.seen.Add(1) // after the candidates were counted: see skips.count
	slices.SortFunc(wanted, func(a, b *route) int { return a.order - b.order })
	return wanted
}

// evaluate appends those of routes that want e.
func evaluate(wanted, routes []*route, e *event.Event) []*route {
	for _, r := range routes {
		ok, err := true, error(nil)
		if r.Match != nil {
			ok, err = r.Match(e)
		}
		ok = ok && err == nil
		if r.Matched != nil {
			r.Matched(ok, err)
		}
		if ok {
			wanted = append(wanted, r)
		}
	}
	return wanted
}
