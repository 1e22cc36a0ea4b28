package dispatch

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

// tally counts what an observer was told.
type tally struct{ matched, looked, skipped atomic.Int64 }

func (c *tally) notMatched() int64 { return c.looked.Load() - c.matched.Load() + c.skipped.Load() }

// observing returns an observer with a condition, "" for none, and what it was told.
func observing(tb testing.TB, name, entity string, of event.Type, condition string) (Observer, *tally) {
	tb.Helper()
	c := &tally{}
	o := Observer{
		Name: name, Entity: entity, Type: of,
		Matched: func(matched bool, _ error) {
			c.looked.Add(1)
			if matched {
				c.matched.Add(1)
			}
		},
		Skipped: func(n int64) { c.skipped.Add(n) },
	}
	if condition == "" {
		return o, c
	}
	compiled, err := handlers.CompileCondition(condition)
	require.NoError(tb, err)
	o.Match = compiled.Match
	if path, text, ok := compiled.Requires(); ok {
		o.Requires = &Requirement{path, text}
	}
	return o, c
}

// matcher returns a dispatcher that does nothing but match.
func matcher(observers ...Observer) *Dispatcher {
	var routes []*route
	for _, o := range observers {
		routes = append(routes, &route{Observer: o})
	}
	return &Dispatcher{index: newIndex(routes)}
}

func names(routes []*route) (list []string) {
	for _, r := range routes {
		list = append(list, r.Name)
	}
	return list
}

// Whatever the conditions and the rows are, the same observers get an event as without the index, in the same order, and
// every event is counted once for each observer that it is for.
func TestTheIndexHidesNobody(t *testing.T) {
	conditions := []string{
		"", "data.a == 'x'", "data.a == 'y'", "'x' == data.a", "data.a == ''", "data.b == 'x'", "data.b == 'y'", "data.b == 'y' && data.a == 'x'",
		"data.a == 'x' || data.b == 'y'", "!(data.a == 'x')", "changed_to('a', 'x')", "changed_to('a', 'y')", "before.a == 'x'", "data.a.b == 'x'",
		"length(data.a) > 1 && data.b == 'x'", "event.entity_id == '1'", "data.a == '\ufffd'", "data.a != 'x'",
	}
	images := []json.RawMessage{
		nil, []byte(`{"a": "x", "b": "y"}`), []byte(`{"a": "y", "b": "x"}`), []byte(`{"a": null, "b": ""}`), []byte(`{"b": "\u0079"}`),
		[]byte(`{"a": {"b": "x"}, "b": 1}`), []byte(`{"a": "\u0078"}`), []byte(`{"a": "\ud800"}`), []byte(`{"a": "z", "a": "x"}`), []byte(`[]`),
	}
	rapid.Check(t, func(rt *rapid.T) {
		var observers []Observer
		var tallies []*tally
		for i, condition := range rapid.SliceOfN(rapid.SampledFrom(conditions), 1, 12).Draw(rt, "conditions") {
			entity := rapid.SampledFrom([]string{"Order", "Order", "*", "Item"}).Draw(rt, "entity")
			of := rapid.SampledFrom([]event.Type{"", "", event.Update, event.Insert}).Draw(rt, "type")
			o, c := observing(t, strconv.Itoa(i), entity, of, condition)
			observers, tallies = append(observers, o), append(tallies, c)
		}
		d := matcher(observers...)
		fitting := make([]int64, len(observers))
		for range 5 {
			e := &event.Event{
				Type: rapid.SampledFrom(event.Types()).Draw(rt, "type"), Entity: rapid.SampledFrom([]string{"Order", "Item", "Other"}).Draw(rt, "entity"), EntityID: "1",
				Before: rapid.SampledFrom(images).Draw(rt, "before"), Data: rapid.SampledFrom(images).Draw(rt, "data"),
			}
			e.Changes = event.Diff(e.Before, e.Data)
			var want []string
			for i, o := range observers {
				if (o.Entity != "*" && o.Entity != e.Entity) || (o.Type != "" && o.Type != e.Type) {
					continue
				}
				fitting[i]++
				ok := o.Match == nil
				if !ok {
					ok, _ = o.Match(e)
				}
				if ok {
					want = append(want, o.Name)
				}
			}
			require.Equal(t, want, names(d.match(e)))
			d.CountSkipped()
			for i, c := range tallies {
				require.Equal(t, fitting[i], c.matched.Load()+c.notMatched(), "observer %d", i)
			}
		}
	})
}

func TestSkippedEventsAreCountedWhileOthersMatch(t *testing.T) {
	const events, workers = 2000, 4
	var observers []Observer
	var tallies []*tally
	for i := range 10 {
		o, c := observing(t, strconv.Itoa(i), "Order", "", fmt.Sprintf("data.status == 's%d'", i))
		observers, tallies = append(observers, o), append(tallies, c)
	}
	d := matcher(observers...)
	var all, scrapes sync.WaitGroup
	begun := atomic.Int64{}
	for w := range workers {
		all.Go(func() {
			for i := range events {
				begun.Add(1)
				d.match(&event.Event{Entity: "Order", Type: event.Insert, Data: fmt.Appendf(nil, `{"status": "s%d"}`, (i+w)%10)})
			}
		})
	}
	done := make(chan struct{})
	for range 2 { // two scrapes at the same time
		scrapes.Go(func() {
			for last := int64(0); ; {
				d.CountSkipped()
				now := tallies[0].skipped.Load()
				if now < last || now+tallies[0].looked.Load() > begun.Load() {
					t.Errorf("%d skipped after %d, of %d events", now, last, begun.Load())
					return
				}
				last = now
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	all.Wait()
	close(done)
	scrapes.Wait()
	d.CountSkipped()
	d.CountSkipped()
	for _, c := range tallies {
		require.EqualValues(t, workers*events/10, c.matched.Load())
		require.EqualValues(t, workers*events*9/10, c.skipped.Load())
	}
}

func TestObserversWithOtherTextsCostNoMemory(t *testing.T) {
	d := crowd(t, 100)
	e := &event.Event{Type: event.Update, Entity: "Order", Data: []byte(`{"status": "nobody's"}`)}
	require.Empty(t, d.match(e))
	require.Zero(t, testing.AllocsPerRun(100, func() { d.match(e) }))
}

// crowd is n observers of one entity, each with another status, and with real counters.
func crowd(tb testing.TB, n int) *Dispatcher {
	tb.Helper()
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events"}, []string{"observer"})
	var observers []Observer
	for i := range n {
		o, _ := observing(tb, strconv.Itoa(i), "Order", "", fmt.Sprintf("data.status == 'status %d'", i))
		counter := vec.WithLabelValues(o.Name)
		o.Matched = func(bool, error) { counter.Inc() }
		observers = append(observers, o)
	}
	return matcher(observers...)
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 2, 3, 5, 100} {
		b.Run(fmt.Sprintf("%d observers", n), func(b *testing.B) {
			d := crowd(b, n)
			e := &event.Event{Type: event.Update, Entity: "Order", Data: []byte(`{"n": 7, "id": 7, "total": 12.50, "status": "status 0", "customer": "customer 7"}`)}
			b.ReportAllocs()
			for b.Loop() {
				d.match(e)
			}
		})
	}
}
