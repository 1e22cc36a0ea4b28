package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

// actionFunc is an action that is a function.
type actionFunc func()

func (f actionFunc) Run(context.Context, *event.Delivery) error { f(); return nil }

// Of many observers only the one that matches is looked at, and all count every event: after a run without a scrape, when
// the process leads a second time, and at a scrape in the middle of that.
func TestEveryEventIsCountedForEveryObserver(t *testing.T) {
	var observers strings.Builder
	for i := range 5 {
		fmt.Fprintf(&observers, "[[observers]]\nname = \"o%d\"\nentity = \"Order\"\ncondition = \"data.status == 's%d'\"\n[[observers.actions]]\ntype = \"pager\"\n", i, i)
	}
	const broken = "[[observers]]\nname = \"broken\"\nentity = \"Order\"\ncondition = \"data.status == 's9' && length(data.n) > 1\"\n" + note
	compiled := plan(t, observers.String()+broken)
	p, err := New(Options{Plan: compiled, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var scraped error
	expect := func(from prometheus.Gatherer, times int) error {
		var want strings.Builder
		want.WriteString("# HELP fraiseql_observer_events_processed_total Events held against an observer's condition, by result.\n# TYPE fraiseql_observer_events_processed_total counter\n")
		counted := func(observer string, failed, matched, not int) {
			fmt.Fprintf(&want, "fraiseql_observer_events_processed_total{observer=%q,result=\"condition_error\"} %d\n", observer, failed*times)
			fmt.Fprintf(&want, "fraiseql_observer_events_processed_total{observer=%q,result=\"matched\"} %d\n", observer, matched*times)
			fmt.Fprintf(&want, "fraiseql_observer_events_processed_total{observer=%q,result=\"not_matched\"} %d\n", observer, not*times)
		}
		counted("broken", 1, 0, 22)
		counted("o0", 0, 11, 12)
		counted("o1", 0, 10, 13)
		counted("o2", 0, 0, 23)
		counted("o3", 0, 0, 23)
		counted("o4", 0, 1, 22)
		return testutil.GatherAndCompare(from, strings.NewReader(want.String()), "fraiseql_observer_events_processed_total")
	}
	times := 1
	compiled.observers[4].actions[0].run = actionFunc(func() {
		if times == 2 {
			scraped = expect(gatherer{p}, times)
		}
	})
	input := strings.Repeat(line("s0")+line("s1"), 10) + line("s0") + line("s9") + line("s4")
	for ; times <= 2; times++ {
		summary, err := p.RunInput(t.Context(), "input", strings.NewReader(input))
		require.NoError(t, err)
		require.Equal(t, 23, summary.Events)
		require.NoError(t, scraped)
		require.NoError(t, expect(p.registry, times), "the end of a run leaves nothing to a scrape")
		require.NoError(t, expect(gatherer{p}, times))
	}
}

func line(status string) string {
	return fmt.Sprintf("{\"entity_type\":\"Order\",\"event_type\":\"UPDATE\",\"entity_id\":\"1\",\"data\":{\"status\":%q,\"n\":1}}\n", status)
}
