package faults

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/postgres"
)

const (
	parkedTx   = "parked"
	parkedMany = 1000 // that are stored by one statement
	growth     = 20   // MiB: what a hundred times as many parked deliveries may add to the process's largest size
)

// lateness is how long after its time a parked delivery may arrive. The promise is a second; the short form shares the
// processors with other scenarios and is patient.
var lateness = pick(3*time.Second, time.Second)

// TestParkedDeliveriesLeaveInTime parks deliveries by the queue's own Go API, as failed ones are: by failing attempts
// they cannot be, since the endpoint's breaker opens after ten. Some become due one after the other, and the process is killed
// and ended among them: what is due while none leads, or soon after, comes late, and only that. The others stay parked
// meanwhile, and are let go at the end.
func TestParkedDeliveriesLeaveInTime(t *testing.T) {
	onlyLong(t)
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{retry: patient, level: "info"})
	start := func() *observer {
		o := startObserver(t, config)
		o.leads(t)
		return o
	}
	o := start()
	p := &parking{world: w, due: map[string]time.Time{}, committed: map[change]string{}, rate: pick(250, 500)}

	p.park(t, p.rate, p.rate, time.Now().Add(time.Second))
	p.left(t, 0)
	few := o.largest(t)

	const shares = 5 // the process ends after the second and the third
	n, timed := pick(3_000, 100_000), pick(1_000, 10_000)
	begin := time.Now().Add(pick(2*time.Second, 20*time.Second))
	p.park(t, n, timed, begin)
	require.True(t, time.Now().Before(begin), "they are parked before the first is due")
	p.left(t, n-timed*2/shares)
	many := o.largest(t)

	since := w.kill(o)
	o = start()
	p.gone(since)
	p.left(t, n-timed*3/shares)
	since = time.Now()
	code, _ := o.terminate(t)
	require.Zero(t, code)
	o = start()
	p.gone(since)
	p.left(t, n-timed)
	inTime, worst := p.judge()
	t.Logf("%d stay parked", n-timed)
	p.letGo(t)
	p.left(t, 0)
	p.ends(t)
	code, _ = o.terminate(t)
	require.Zero(t, code)

	v := check(p.committed, w.arrived(), w.kills, nil)
	report(t, fmt.Sprintf("%d parked; kill -9, SIGTERM among them", n), v, w.recovery)
	t.Logf("largest size %.1f MiB with %d parked, %.1f MiB with %d; of %d due while a process led the latest came after %s", few, p.rate, many, n, inTime, worst)
	require.LessOrEqual(t, v.duplicates, v.allowed)
	require.Greater(t, inTime, timed/pick(8, 4), "many are due while a process leads")
	require.LessOrEqual(t, worst, lateness)
	require.LessOrEqual(t, many-few, float64(growth), "MiB more")
}

// parking is what was parked, and when nobody was there to deliver it.
type parking struct {
	*world
	rate      int                  // that become due in a second
	due       map[string]time.Time // by event id
	committed map[change]string
	away      [][2]time.Time
}

type term int64

func (g term) Generation() int64 { return int64(g) }

// later is when those become due that are to stay.
const later = time.Hour

// park parks n deliveries of which some become due from a moment on.
func (p *parking) park(t *testing.T, n, timed int, from time.Time) {
	t.Helper()
	pool, err := postgres.Connect(t.Context(), postgres.Config{URL: secret.String(p.url)}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer pool.Close()
	queue, err := postgres.NewRetryQueue(postgres.RetryQueueConfig{
		DB: pool, Listener: "observer", Fence: term(query[int64](t, p.world, `select generation from core.tb_observer_lease`)), MaxDeliver: 3,
	})
	require.NoError(t, err)
	order := rand.New(rand.NewPCG(seed, uint64(n))).Perm(n) // what is parked first need not be due first
	for len(order) > 0 {
		some := order[:min(len(order), parkedMany)]
		order = order[len(some):]
		list := make([]dispatch.Spilled, len(some))
		for i, place := range some {
			list[i] = dispatch.Spilled{Delivery: p.failed(), NotBefore: from.Add(later)}
			if place < timed {
				list[i].NotBefore = from.Add(time.Duration(place) * time.Second / time.Duration(p.rate))
				p.due[list[i].Delivery.Event.ID] = list[i].NotBefore
			}
		}
		require.NoError(t, queue.Spill(t.Context(), list))
	}
}

// failed is a delivery after its first attempt.
func (p *parking) failed() *event.Delivery {
	id := strconv.Itoa(len(p.committed))
	p.committed[change{"Parked/" + id, 1}] = parkedTx
	return &event.Delivery{
		Event: &event.Event{
			ID: uuid.NewString(), Type: event.Insert, Entity: "Parked", EntityID: id, Timestamp: time.Now().UTC(),
			Data: []byte(`{"rev":1,"tx":"` + parkedTx + `"}`),
		},
		Observer: "all", Action: "notify",
		Attempts: []event.Attempt{{At: time.Now().UTC(), Error: "503 Service Unavailable", Class: "http_503"}},
	}
}

// left waits until no more than n deliveries have not arrived; one that came twice counts for another.
func (p *parking) left(t *testing.T, n int) {
	t.Helper()
	patience := within + time.Duration(len(p.committed)/p.rate)*time.Second
	testenv.Eventually(t, patience, func() error {
		if have := len(p.committed) - (p.receiver.count() - p.base); have > n {
			return fmt.Errorf("%d deliveries are parked, not %d", have, n)
		}
		return nil
	})
}

// ends waits until nothing is parked.
func (p *parking) ends(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		have, err := queryURL[int](t.Context(), p.url, `select count(*) from core.tb_observer_retry`)
		if err == nil && have > 0 {
			err = fmt.Errorf("%d deliveries are parked still", have)
		}
		return err
	})
}

// gone notes until when what was due waited for a process: the next one needs some time to catch up.
func (p *parking) gone(since time.Time) {
	took := time.Since(since)
	p.recovery = max(p.recovery, took)
	p.away = append(p.away, [2]time.Time{since.Add(-time.Second), time.Now().Add(took + 2*time.Second)})
}

// letGo makes everything due that is still parked.
func (p *parking) letGo(t *testing.T) {
	t.Helper()
	query[int](t, p.world, `with gone as (update core.tb_observer_retry set not_before = now() returning 1) select count(*) from gone`)
}

// judge returns how many deliveries were due while a process led, and how late the latest of them arrived.
func (p *parking) judge() (inTime int, worst time.Duration) {
	for _, r := range p.arrived() {
		id, _, _ := strings.Cut(r.id, "_")
		if due, timed := p.due[id]; timed && !p.wasAway(due) {
			inTime++
			worst = max(worst, r.at.Sub(due))
		}
	}
	return inTime, worst
}

func (p *parking) wasAway(moment time.Time) bool {
	for _, a := range p.away {
		if moment.After(a[0]) && moment.Before(a[1]) {
			return true
		}
	}
	return false
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// largest is the largest resident size of the process so far, in MiB.
func (o *observer) largest(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.cmd.Process.Pid))
	require.NoError(t, err)
	found := highWater.FindSubmatch(text)
	require.NotNil(t, found)
	kib, err := strconv.ParseFloat(string(found[1]), 64)
	require.NoError(t, err)
	return kib / 1024
}
