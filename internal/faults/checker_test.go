package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// settleWindow is how late a settled delivery may reach the stored checkpoint: what settled within it before a kill may
// come again. The promise is 100 ms; scenarios that take the processors from each other are patient.
func settleWindow() time.Duration {
	if contended.Load() {
		return pick(2*time.Second, time.Second)
	}
	return 100 * time.Millisecond
}

// verdict is what a scenario counted.
type verdict struct {
	events, lost, uncommitted, duplicates, unexplained, allowed, disorder int

	details map[string][]string // some cases of each kind
}

// add adds another count.
func (v *verdict) add(o verdict) {
	v.events, v.lost, v.uncommitted, v.duplicates = v.events+o.events, v.lost+o.lost, v.uncommitted+o.uncommitted, v.duplicates+o.duplicates
	v.unexplained, v.allowed, v.disorder = v.unexplained+o.unexplained, v.allowed+o.allowed, v.disorder+o.disorder
	for kind, list := range o.details {
		v.details[kind] = append(v.details[kind], list...)
	}
}

// maxDetails is how many cases of each kind are shown.
const maxDetails = 10

func (v *verdict) note(kind, format string, args ...any) {
	if v.details == nil {
		v.details = map[string][]string{}
	}
	if len(v.details[kind]) < maxDetails {
		v.details[kind] = append(v.details[kind], fmt.Sprintf(format, args...))
	}
}

// overtaken forgives disorder: what was parked may be overtaken.
func (v *verdict) overtaken() {
	v.disorder = 0
	delete(v.details, "out of order")
}

// check compares what was committed with what arrived. Kills are the moments at which the program lost its memory, or the
// receiver its connections: a delivery may come again when it was running then, or had settled within settleWindow before.
// Excused holds the ids of events that may come again for another reason.
func check(committed map[change]string, arrived []request, kills []time.Time, excused map[string]bool) verdict {
	v := verdict{events: len(committed), allowed: len(excused)}
	last := map[change]request{} // by change, the latest request
	newest := map[string]int64{} // by entity, the highest rev so far
	for _, r := range arrived {
		if r.status >= 300 {
			continue
		}
		before, again := last[r.change]
		switch {
		case again:
			v.again(before, r, kills, excused)
		case committed[r.change] != r.tx || r.rolledBack:
			v.uncommitted++
			v.note("uncommitted", "%v of transaction %s (rolled back: %v)", r.change, r.tx, r.rolledBack)
		case r.change.rev < newest[r.change.entity]:
			v.disorder++
			v.note("out of order", "%v after rev %d", r.change, newest[r.change.entity])
		}
		last[r.change] = r
		newest[r.change.entity] = max(newest[r.change.entity], r.change.rev)
	}
	for c, tx := range committed {
		if _, ok := last[c]; !ok {
			v.lost++
			v.note("lost", "%v of transaction %s", c, tx)
		}
	}
	for _, kill := range kills {
		v.allowed += open(arrived, kill)
	}
	return v
}

// again judges a request for something that had arrived before.
func (v *verdict) again(before, r request, kills []time.Time, excused map[string]bool) {
	v.duplicates++
	if r.id == before.id {
		if event, _, _ := strings.Cut(r.id, "_"); excused[event] {
			return
		}
		for _, kill := range kills {
			if kill.Before(r.at) && openAt(before, kill) {
				return
			}
		}
	}
	v.unexplained++
	v.note("duplicate without a reason", "%v arrived %s, was answered %s, arrived again %s (%s from %s, %s from %s)", r.change,
		before.at.Format(time.StampMicro), before.replied.Format(time.StampMicro), r.at.Format(time.StampMicro), before.id, before.instance, r.id, r.instance)
}

// transit is how late the receiver may note what a process had sent before it stopped: it is the test's own process, and waits
// for a processor as well.
func transit() time.Duration {
	if contended.Load() {
		return pick(time.Second, 500*time.Millisecond)
	}
	return 50 * time.Millisecond
}

// openAt reports whether a request was running at a moment, or had settled so shortly before that it may come again.
func openAt(r request, moment time.Time) bool {
	return r.at.Before(moment.Add(transit())) && (r.replied.IsZero() || r.replied.After(moment.Add(-settleWindow())))
}

// open counts the requests that were open at a moment.
func open(arrived []request, moment time.Time) int {
	n := 0
	for _, r := range arrived {
		if openAt(r, moment) {
			n++
		}
	}
	return n
}

// require fails the test on anything that was promised not to happen.
func (v *verdict) require(t *testing.T) {
	t.Helper()
	if v.lost+v.uncommitted+v.disorder+v.unexplained > 0 {
		t.Errorf("%d events: %d lost, %d uncommitted, %d out of order, %d duplicates without a reason", v.events, v.lost, v.uncommitted, v.disorder, v.unexplained)
		for kind, list := range v.details {
			t.Logf("%s:\n  %s", kind, strings.Join(list, "\n  "))
		}
	}
}

func TestTheCheckerCountsWhatWentWrong(t *testing.T) {
	start := time.Now()
	at := func(hundredths int) time.Time { return start.Add(time.Duration(hundredths) * settleWindow() / 100) }
	arrival := func(rev int64, arrived, replied int) request {
		return request{id: "id", change: change{"Order/1", rev}, tx: "tx", status: 200, at: at(arrived), replied: at(replied)}
	}
	committed := map[change]string{{"Order/1", 1}: "tx", {"Order/1", 2}: "tx"}
	foreign, failed, undone, renamed := arrival(2, 10, 11), arrival(1, 5, 6), arrival(2, 10, 11), arrival(2, 1000, 1001)
	foreign.tx, failed.status, undone.rolledBack, renamed.id = "other", 500, true, "other"
	tests := map[string]struct {
		arrived []request
		kill    int
		excused map[string]bool
		want    verdict
	}{
		"all well":                             {[]request{arrival(1, 0, 1), arrival(2, 10, 11)}, 0, nil, verdict{}},
		"one never arrived":                    {[]request{arrival(1, 0, 1)}, 0, nil, verdict{lost: 1}},
		"one was refused":                      {[]request{failed, arrival(2, 10, 11)}, 0, nil, verdict{lost: 1}},
		"a refused one came again":             {[]request{failed, arrival(1, 7, 8), arrival(2, 10, 11)}, 0, nil, verdict{}},
		"another transaction's":                {[]request{arrival(1, 0, 1), foreign}, 0, nil, verdict{uncommitted: 1}},
		"a rolled back one":                    {[]request{arrival(1, 0, 1), undone}, 0, nil, verdict{uncommitted: 1}},
		"the later one first":                  {[]request{arrival(2, 0, 1), arrival(1, 10, 11)}, 0, nil, verdict{disorder: 1}},
		"again, with no kill between":          {[]request{arrival(1, 0, 1), arrival(2, 10, 11), arrival(2, 20, 21)}, 0, nil, verdict{duplicates: 1, unexplained: 1}},
		"again, long after it had settled":     {[]request{arrival(1, 0, 1), arrival(2, 10, 11), arrival(2, 900, 901)}, 500, nil, verdict{duplicates: 1, unexplained: 1}},
		"again, after it had just settled":     {[]request{arrival(1, 0, 1), arrival(2, 410, 411), arrival(2, 900, 901)}, 500, nil, verdict{duplicates: 1, allowed: 1}},
		"again, after it was running":          {[]request{arrival(1, 0, 1), arrival(2, 10, 950), arrival(2, 900, 901)}, 500, nil, verdict{duplicates: 1, allowed: 1}},
		"again, with another webhook-id":       {[]request{arrival(1, 0, 1), arrival(2, 410, 411), renamed}, 500, nil, verdict{duplicates: 1, unexplained: 1, allowed: 1}},
		"again, from the log after parking":    {[]request{arrival(1, 0, 1), arrival(2, 600, 601), arrival(2, 900, 901)}, 500, map[string]bool{"id": true}, verdict{duplicates: 1, allowed: 1}},
		"a redelivered old one is no disorder": {[]request{arrival(1, 420, 421), arrival(2, 430, 431), arrival(1, 900, 901)}, 500, nil, verdict{duplicates: 1, allowed: 2}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var kills []time.Time
			if test.kill > 0 {
				kills = append(kills, at(test.kill))
			}
			got := check(committed, test.arrived, kills, test.excused)
			got.details = nil
			test.want.events = 2
			require.Equal(t, test.want, got)
		})
	}
}
