package dispatch

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

func TestObserversOfOtherEntitiesAndTypesCostNothing(t *testing.T) {
	var routes []*route
	for i := range 1000 {
		routes = append(routes, &route{Observer: Observer{Name: fmt.Sprintf("other-%d", i), Entity: fmt.Sprintf("Other%d", i)}})
	}
	routes = append(routes, &route{Observer: Observer{Name: "deletions", Entity: "Order", Type: event.Delete}})
	d := &Dispatcher{index: newIndex(routes)}
	e := &event.Event{Type: event.Update, Entity: "Order", Data: []byte(`{"id": 1}`)}
	require.Empty(t, d.match(e))
	require.Zero(t, testing.AllocsPerRun(100, func() { d.match(e) }))
}

func TestAnIndexKeepsTheOrderOfTheFile(t *testing.T) {
	list := func(x *index, e *event.Event) (names []string) {
		for _, r := range (&Dispatcher{index: x}).match(e) {
			names = append(names, r.Name)
		}
		return names
	}
	var routes []*route
	for _, o := range []Observer{
		{Name: "a", Entity: "*", Type: event.Insert}, {Name: "b", Entity: "Order"}, {Name: "c", Entity: "*"}, {Name: "d", Entity: "Order", Type: event.Insert},
	} {
		routes = append(routes, &route{Observer: o})
	}
	x := newIndex(routes)
	require.Equal(t, []string{"a", "b", "c", "d"}, list(x, &event.Event{Entity: "Order", Type: event.Insert}))
	require.Equal(t, []string{"b", "c"}, list(x, &event.Event{Entity: "Order", Type: event.Custom}))
	require.Equal(t, []string{"a", "c"}, list(x, &event.Event{Entity: "Invoice", Type: event.Insert}))
}
