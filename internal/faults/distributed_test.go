package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// fleet is several databases, each with bridges of its own, one bus, and workers that they share.
type fleet struct {
	worlds   []*world
	receiver *receiver
	nodes    []*natsNode
	replicas int
	ackWait  int            // seconds
	onRetry  string         // of the workers' observer
	parts    int            // partitions of the stream
	outages  [][2]time.Time // of the bus: from a server's death until the cluster takes writes again
}

func newFleet(t *testing.T, databases int, nodes []*natsNode) *fleet {
	t.Helper()
	f := &fleet{nodes: nodes, replicas: len(nodes), ackWait: 4}
	for range databases {
		w := newWorld(t, "")
		parsed, err := url.Parse(w.url)
		require.NoError(t, err)
		w.source = strings.TrimPrefix(parsed.Path, "/")
		if f.receiver == nil {
			f.receiver = w.receiver
		}
		w.receiver = f.receiver
		f.worlds = append(f.worlds, w)
	}
	return f
}

func (f *fleet) bus() string { return f.busAt(urls(f.nodes)) }

func (f *fleet) busAt(url string) string {
	return fmt.Sprintf("[transport.nats]\nurl = %q\n[transport.nats.jetstream]\nreplicas = %d\nack_wait_secs = %d\npartitions = %d", url, f.replicas, f.ackWait, f.parts)
}

// bridge runs a bridge of one database.
func (f *fleet) bridge(t *testing.T, database int, name string) *observer {
	t.Helper()
	w := f.worlds[database]
	return startObserver(t, w.config(t, settings{
		instance: name, transport: "transport = \"nats\"\nrun_bridge = true\nrun_executors = false\n" + f.bus() +
			fmt.Sprintf("\n[transport.bridge]\ntransport_name = \"bridge_%d\"", database),
	}))
}

// worker runs a worker.
func (f *fleet) worker(t *testing.T, name string) *observer {
	t.Helper()
	return f.workerAt(t, name, urls(f.nodes))
}

// workerAt runs a worker that reaches the bus at an address of its own.
func (f *fleet) workerAt(t *testing.T, name, url string) *observer {
	t.Helper()
	return startObserver(t, f.worlds[0].config(t, settings{instance: name, retry: patient, onRetry: f.onRetry, transport: "transport = \"nats\"\n" + f.busAt(url)}))
}

// led runs a bridge of the only database and waits until it leads.
func (f *fleet) led(t *testing.T) *observer {
	t.Helper()
	bridge := f.bridge(t, 0, "bridge")
	bridge.leads(t)
	return bridge
}

// killed notes a fault for all databases: what was running may come again.
func (f *fleet) killed(at time.Time) {
	for _, w := range f.worlds {
		w.kills = append(w.kills, at)
	}
}

// confirming is how long a cluster on a busy machine may take to confirm an ack. A worker that dies before repeats it no more.
const confirming = 2 * time.Second

// killedWorker notes the fault, and forgives the repetition of what this worker did last.
func (f *fleet) killedWorker(at time.Time, instance string) {
	f.killed(at)
	for _, w := range f.worlds {
		for _, r := range w.arrived() {
			if r.instance == instance && r.replied.After(at.Add(-confirming)) {
				id, _, _ := strings.Cut(r.id, "_")
				w.excused[id] = true
			}
		}
	}
}

// finish settles every database and reports them as one row.
func (f *fleet) finish(t *testing.T, fault string, processes ...*observer) verdict {
	t.Helper()
	var all []map[change]string
	for _, w := range f.worlds {
		all = append(all, w.settle(t))
	}
	for _, o := range processes {
		code, _ := o.terminate(t)
		require.Zero(t, code, "exit code after SIGTERM")
	}
	sum := verdict{details: map[string][]string{}}
	recovery := time.Duration(-1)
	for i, w := range f.worlds {
		w.measure()
		f.excuse(w)
		recovery = max(recovery, w.recovery)
		v := check(all[i], w.arrived(), w.kills, w.excused)
		v.overtaken() // workers that share a consumer: see the README
		sum.add(v)
	}
	report(t, fault, sum, recovery)
	return sum
}

// excuse forgives what was answered while the bus had no leader: its ack went nowhere, as the README says.
func (f *fleet) excuse(w *world) {
	for _, r := range w.arrived() {
		for _, outage := range f.outages {
			if !r.replied.Before(outage[0].Add(-settleWindow())) && r.replied.Before(outage[1].Add(settleWindow())) {
				id, _, _ := strings.Cut(r.id, "_")
				w.excused[id] = true
			}
		}
	}
}

// TestABridgeAndWorkersDeliverEverything is the third topology with nothing broken.
func TestABridgeAndWorkersDeliverEverything(t *testing.T) {
	scenario(t)
	f := newFleet(t, 1, natsCluster(t, 1))
	bridge := f.led(t)
	workers := []*observer{f.worker(t, "one"), f.worker(t, "two")}
	f.receiver.delay(0, 20*time.Millisecond)
	startWriters(t, f.worlds[0].writers, t.Name())
	wait(t.Context(), chaosTime)
	v := f.finish(t, "a bridge and two workers, nothing broken", append(workers, bridge)...)
	require.Zero(t, v.duplicates)
	for _, name := range []string{"one", "two"} {
		require.False(t, f.receiver.firstAfter(time.Time{}, name).IsZero(), "worker %s had its share", name)
	}
}

// TestFleetKilledAtRandomLosesNothing kills bridges, workers and servers of the bus at random.
func TestFleetKilledAtRandomLosesNothing(t *testing.T) {
	scenario(t)
	nodes := natsCluster(t, pick(1, 3))
	f := newFleet(t, pick(1, 3), nodes)
	var bridges [][]*observer // by database: two
	for i := range f.worlds {
		bridges = append(bridges, []*observer{f.bridge(t, i, fmt.Sprintf("bridge-%d-a", i)), f.bridge(t, i, fmt.Sprintf("bridge-%d-b", i))})
	}
	var workers []*observer
	for i := range 3 {
		workers = append(workers, f.worker(t, fmt.Sprintf("worker-%d", i)))
	}
	for _, pair := range bridges {
		testenv.Eventually(t, within, func() error {
			for _, o := range pair {
				if strings.Contains(o.text(), "msg=leading listener=") {
					return nil
				}
			}
			return errors.New("no bridge leads")
		})
	}
	f.receiver.delay(0, 20*time.Millisecond)
	for i, w := range f.worlds {
		startWriters(t, w.writers, fmt.Sprintf("%s-%d", t.Name(), i))
	}
	random := newRandom(t.Name(), 1)
	for end := time.Now().Add(pick(8*time.Second, 5*time.Minute)); time.Now().Before(end); {
		wait(t.Context(), pick(2*time.Second, 3*time.Second))
		f.breakOne(t, random, bridges, workers)
	}
	var processes []*observer
	for _, pair := range bridges {
		processes = append(processes, pair...)
	}
	v := f.finish(t, fmt.Sprintf("%d bridges with standbys, %d servers, 3 workers, killed at random", len(bridges), len(nodes)), append(processes, workers...)...)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// settles waits until the workers' consumer has a leader and every copy of it is up to date.
func (f *fleet) settles(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, 2*within, func() error {
		conn, err := natsgo.Connect(urls(f.nodes), natsgo.Timeout(time.Second))
		if err != nil {
			return err
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		consumer, err := js.Consumer(ctx, "fraiseql_events", "fraiseql_observer_worker")
		if err != nil {
			return err
		}
		cluster := consumer.CachedInfo().Cluster
		if cluster == nil { // one server
			return nil
		}
		for _, peer := range cluster.Replicas {
			if !peer.Current || peer.Offline {
				return fmt.Errorf("%s is not up to date", peer.Name)
			}
		}
		return nil
	})
}

// breakOne kills one process and starts it again.
func (f *fleet) breakOne(t *testing.T, random *rand.Rand, bridges [][]*observer, workers []*observer) {
	t.Helper()
	switch random.IntN(3) {
	case 0:
		database, i := random.IntN(len(bridges)), random.IntN(2)
		f.killed(bridges[database][i].kill())
		bridges[database][i] = f.bridge(t, database, fmt.Sprintf("bridge-%d-%c", database, 'a'+rune(i)))
	case 1:
		i := random.IntN(len(workers))
		name := fmt.Sprintf("worker-%d", i)
		f.killedWorker(workers[i].kill(), name)
		workers[i] = f.worker(t, name)
	case 2:
		node := f.nodes[random.IntN(len(f.nodes))]
		died := time.Now()
		node.kill()
		wait(t.Context(), time.Second)
		node.start(t)
		ready(t, f.nodes, f.replicas)
		f.settles(t)
		f.outages = append(f.outages, [2]time.Time{died, time.Now()})
	}
}
