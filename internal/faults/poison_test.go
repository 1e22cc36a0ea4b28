package faults

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAnEventThatKillsTheProcessBecomesADeadLetter starts the process again each time that it died.
func TestAnEventThatKillsTheProcessBecomesADeadLetter(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{team: "deadly"})
	o := startObserver(t, config)
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	execute(t, w, `insert into public.orders (id, rev, tx, deadly) values (5000, 1, 'deadly', true)`)
	begun := time.Now()
	deaths := 0
	for dead := int64(0); dead == 0; {
		select {
		case <-o.done:
			deaths++
			require.LessOrEqual(t, deaths, 3, "the third start without an outcome is the last one")
			require.Equal(t, -1, o.cmd.ProcessState.ExitCode(), "it died of the signal: %s", o.tail(20))
			w.kills = append(w.kills, o.died(t))
			o = startObserver(t, config)
		case <-time.After(50 * time.Millisecond):
			require.Less(t, time.Since(begun), 2*within)
			dead = query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`)
		}
	}
	took := time.Since(begun)
	require.Equal(t, 3, deaths)
	require.Equal(t, "Order/5000/poison", query[string](t, w,
		`select entity || '/' || (event ->> 'entity_id') || '/' || error_class from core.tb_observer_dead_letter`))
	execute(t, w, `update public.orders set rev = 2, tx = 'cured', deadly = false where id = 5000`)
	w.journal.commit("cured", []change{{"Order/5000", 2}})
	wait(t.Context(), pick(time.Second, 5*time.Second))
	w.recovery = took
	v := w.finish(t, "an event that kills the process (3 starts)", o)
	require.Equal(t, int64(1), query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`), "no neighbour was buried")
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

var killedAt = regexp.MustCompile(`killed .* at (\d+)`)

// died returns when the process killed itself: its end is noticed much later, when its memory is gone.
func (o *observer) died(t *testing.T) time.Time {
	t.Helper()
	found := killedAt.FindStringSubmatch(o.text())
	require.NotNil(t, found, o.tail(20))
	nanoseconds, err := strconv.ParseInt(found[1], 10, 64)
	require.NoError(t, err)
	return time.Unix(0, nanoseconds)
}
