package faults

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const (
	eventStream = "fraiseql_events"
	workersName = "fraiseql_observer_worker"
)

// asks opens a connection to the bus for one question.
func (f *fleet) asks(ctx context.Context, do func(context.Context, jetstream.JetStream) error) error {
	conn, err := natsgo.Connect(urls(f.nodes), natsgo.Timeout(time.Second))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return do(ctx, js)
}

// holds waits until the workers have fetched that many events, of which no outcome is known.
func (f *fleet) holds(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		return f.asks(t.Context(), func(ctx context.Context, js jetstream.JetStream) error {
			consumer, err := js.Consumer(ctx, eventStream, workersName)
			if err == nil && consumer.CachedInfo().NumAckPending < n {
				err = fmt.Errorf("the workers hold %d events", consumer.CachedInfo().NumAckPending)
			}
			return err
		})
	})
}

// confirmation is how far behind a bridge confirms, at most: it looks twice a second, and what it saw published has to
// have left the stream by then.
const confirmation = 3 * time.Second

// TestADeletedStreamIsFilledAgain deletes the stream of events under load, and those of retries and dead letters.
func TestADeletedStreamIsFilledAgain(t *testing.T) {
	scenario(t)
	f := newFleet(t, 1, natsCluster(t, 1))
	w, bridge := f.worlds[0], f.led(t)
	all := []*observer{f.worker(t, "one"), f.worker(t, "two"), bridge}
	f.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	for range pick(1, 6) {
		w.delivers(t, time.Now(), "")
		wait(t.Context(), pick(time.Second, 5*time.Second))
		deleted := time.Now()
		offsets := map[*observer]int{}
		for _, o := range all {
			offsets[o] = len(o.text())
		}
		for _, stream := range []string{eventStream, eventStream + "_retries", eventStream + "_dead_letters"} {
			require.NoError(t, f.asks(t.Context(), func(ctx context.Context, js jetstream.JetStream) error { return js.DeleteStream(ctx, stream) }))
		}
		for _, said := range []string{"are published again", "stream=" + eventStream + "_retries", "stream=" + eventStream + "_dead_letters"} {
			testenv.Eventually(t, within, func() (err error) {
				for _, o := range all { // the first that looks makes it
					if err = o.saysAfter(offsets[o], said); err == nil {
						return nil
					}
				}
				return err
			})
		}
		f.outages = append(f.outages, [2]time.Time{deleted.Add(-confirmation), time.Now()})
		w.delivers(t, time.Now(), "")
	}
	f.finish(t, "streams of events, retries and dead letters deleted", all...)
}

// TestAWorkerThatIsCutOffRepeatsOnlyWhatItHad cuts one of two workers off from the bus for longer than ack_wait_secs.
func TestAWorkerThatIsCutOffRepeatsOnlyWhatItHad(t *testing.T) {
	onlyLong(t)
	scenario(t)
	f := newFleet(t, 1, natsCluster(t, 1))
	f.ackWait = pick(2, 4)
	w, bridge := f.worlds[0], f.led(t)
	bus, err := url.Parse(f.nodes[0].url)
	require.NoError(t, err)
	proxy := newProxy(t, bus.Host)
	workers := []*observer{f.workerAt(t, "one", "nats://"+proxy.Listen), f.worker(t, "two")}
	f.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	for range pick(1, 6) {
		w.delivers(t, time.Now(), "one")
		wait(t.Context(), pick(500*time.Millisecond, 3*time.Second))
		cut := time.Now()
		for _, way := range []string{"upstream", "downstream"} {
			_, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name": %q, "type": "timeout", "stream": %q, "attributes": {"timeout": 0}}`, way, way)))
			require.NoError(t, err)
		}
		wait(t.Context(), time.Duration(f.ackWait)*pick(1500*time.Millisecond, 2*time.Second))
		w.delivers(t, time.Now(), "two")
		for _, way := range []string{"upstream", "downstream"} {
			require.NoError(t, proxy.Toxics.RemoveToxic(t.Context(), way))
		}
		back := w.delivers(t, time.Now(), "one")
		t.Logf("cut off for %s, delivered again after %s, and %d meanwhile", time.Since(cut)-back, back, f.excuseHeld(w, "one", cut))
	}
	v := f.finish(t, "a worker cut off from the bus for longer than ack_wait_secs", append(workers, bridge)...)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// excuseHeld forgives the repetition of what a worker had in hand when it was cut off: it can neither ack nor fetch. It
// returns how many of those it has answered for.
func (f *fleet) excuseHeld(w *world, instance string, cut time.Time) int {
	n := 0
	for _, r := range w.arrived() {
		if r.instance == instance && openAt(r, cut) || r.instance == instance && r.at.After(cut) {
			id, _, _ := strings.Cut(r.id, "_")
			w.excused[id] = true
			n++
		}
	}
	return n
}

// TestAWorkerThatComesTakesItsShare adds a worker under load, and takes it away again.
func TestAWorkerThatComesTakesItsShare(t *testing.T) {
	onlyLong(t)
	exact(t)
	f := newFleet(t, 1, natsCluster(t, 1))
	f.ackWait = 60 // what one leaves behind would come too late
	w, bridge := f.worlds[0], f.led(t)
	one := f.worker(t, "one")
	f.receiver.delay(20*time.Millisecond, 60*time.Millisecond)
	startWriters(t, w.writers, t.Name())
	for range pick(1, 5) {
		w.delivers(t, time.Now(), "one")
		wait(t.Context(), pick(500*time.Millisecond, 3*time.Second))
		two := f.worker(t, "two")
		two.awaits(t, `msg=working`)
		added := time.Now()
		require.Less(t, w.delivers(t, added, "two"), pick(within/3, 2*time.Second))
		wait(t.Context(), 2*time.Second-time.Since(added))
		share := f.share("two", added)
		t.Logf("share of the worker that came, in its first 2 s: %.2f", share)
		require.Greater(t, share, pick(0.1, 0.3))
		code, _ := two.terminate(t)
		require.Zero(t, code)
	}
	v := f.finish(t, "a worker comes under load and goes (SIGTERM)", one, bridge)
	require.Zero(t, v.duplicates)
}

// share is which part of what arrived since a moment came from an instance.
func (f *fleet) share(instance string, since time.Time) float64 {
	n, all := 0, 0
	for _, r := range f.receiver.all() {
		if r.at.Before(since) {
			continue
		}
		all++
		if r.instance == instance {
			n++
		}
	}
	return float64(n) / float64(max(all, 1))
}

// TestRollingRestartsOfWorkersStrandNothing ends each worker in turn while it has read far ahead.
func TestRollingRestartsOfWorkersStrandNothing(t *testing.T) {
	scenario(t)
	const ahead = 200
	f := newFleet(t, 1, natsCluster(t, 1))
	f.ackWait = 60 // what is left behind would come too late
	w, bridge := f.worlds[0], f.led(t)
	names := []string{"one", "two"}
	workers := []*observer{f.worker(t, names[0]), f.worker(t, names[1])}
	for _, o := range workers {
		o.awaits(t, `msg=working`)
	}
	f.receiver.delay(500*time.Millisecond, time.Second)
	for range pick(1, 3) {
		for i, name := range names {
			w.commitsAtOnce(t, 5*ahead/2)
			f.holds(t, len(names)*ahead)
			code, _ := workers[i].terminate(t)
			require.Zero(t, code)
			workers[i] = f.worker(t, name)
			workers[i].awaits(t, `msg=working`)
		}
	}
	f.receiver.delay(0, 0)
	v := f.finish(t, fmt.Sprintf("SIGTERM of each worker in turn, %d times, each with %d events read ahead", pick(1, 3), ahead), append(workers, bridge)...)
	require.Zero(t, v.duplicates)
}

// commitsAtOnce makes n changes in one transaction, and journals them.
func (w *world) commitsAtOnce(t *testing.T, n int) {
	t.Helper()
	one := &writer{writers: w.writers, name: fmt.Sprintf("test-%d", started.Add(1))}
	require.NoError(t, one.connect(t.Context()))
	defer one.hangUp(t.Context())
	tx, mark, err := one.begin(t.Context())
	require.NoError(t, err)
	made := make([]change, n)
	for i := range made {
		made[i], err = one.change(t.Context(), tx, int64(1+i%entities), mark, false)
		require.NoError(t, err)
	}
	require.NoError(t, one.commit(t.Context(), tx, mark, made))
}
