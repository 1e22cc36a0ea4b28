package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// streamAckWait is ack_wait_secs: how long a worker gives no sign of life before others take what it has.
const streamAckWait = 2 * time.Second

// streamWorld is a Redis that holds the stream, a program that adds to it, and workers that share it.
type streamWorld struct {
	*world
	server    *testenv.RedisServer
	producers *producers
	workers   map[string]*observer
}

// newStreamWorld starts a Redis that loses nothing that it confirmed, unless settings say otherwise.
func newStreamWorld(t *testing.T) *streamWorld {
	t.Helper()
	w := &world{dir: t.TempDir(), receiver: newReceiver(t), journal: newJournal(), recovery: -1, excused: map[string]bool{}}
	w.writers = &writers{} // there is no database
	return &streamWorld{
		world: w, server: testenv.NewRedis(t, "appendonly yes", "appendfsync always", "maxmemory-policy noeviction"),
		producers: &producers{stream: "events", journal: w.journal, pause: 15 * time.Millisecond}, workers: map[string]*observer{},
	}
}

// worker starts a worker, which reaches Redis at the address.
func (s *streamWorld) worker(t *testing.T, name, address string) {
	t.Helper()
	o := startObserver(t, s.config(t, settings{instance: name, retry: patient, transport: fmt.Sprintf(
		"transport = \"redis\"\n[transport.redis]\nstream = \"events\"\n[transport.nats.jetstream]\nack_wait_secs = %d\n[redis]\nurl = \"redis://%s/0\"\ncommand_timeout_secs = 1",
		int(streamAckWait.Seconds()), address)}))
	o.awaits(t, `msg=working`)
	s.workers[name] = o
}

// begin starts the workers and the load.
func (s *streamWorld) begin(t *testing.T, address string, names ...string) {
	t.Helper()
	for _, name := range names {
		s.worker(t, name, address)
	}
	s.receiver.delay(0, 20*time.Millisecond)
	startProducers(t, s.server.URL(), s.producers)
	for _, name := range names {
		s.delivers(t, time.Now(), name)
	}
	s.recovery = -1
}

// finish settles, ends the workers and reports. Where order is not promised, disorder is none.
func (s *streamWorld) finish(t *testing.T, fault string, ordered bool) verdict {
	t.Helper()
	s.producers.stop()
	s.producers.excuse(s.excused)
	committed := s.settle(t)
	s.empties(t) // what a killed worker had delivered and not acked comes again after a while
	for _, o := range s.workers {
		code, _ := o.terminate(t)
		require.Zero(t, code, "exit code after SIGTERM")
	}
	s.measure()
	v := check(committed, s.arrived(), s.kills, s.excused)
	if !ordered {
		v.overtaken()
	}
	report(t, fault, v, s.recovery)
	return v
}

// empties waits until everything has left the stream; nothing becomes a dead letter.
func (s *streamWorld) empties(t *testing.T) {
	t.Helper()
	client := s.client(t)
	testenv.Eventually(t, within, func() error {
		length, err := client.XLen(t.Context(), "events").Result()
		if err != nil {
			return err
		}
		pending, err := client.XPending(t.Context(), "events", "fraiseql_observer_worker").Result()
		if err != nil {
			return err
		}
		if length > 0 || pending.Count > 0 {
			return fmt.Errorf("%d entries are in the stream, %d of them pending", length, pending.Count)
		}
		return nil
	})
	require.Zero(t, client.ZCard(t.Context(), "events:dead_letters").Val())
}

func (s *streamWorld) client(t *testing.T) *goredis.Client {
	t.Helper()
	options, err := goredis.ParseURL(s.server.URL())
	require.NoError(t, err)
	client := goredis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// unready waits until every worker says that Redis does not answer.
func (s *streamWorld) unready(t *testing.T) {
	t.Helper()
	for _, o := range s.workers {
		state := o.becomes(t, 503)
		require.Equal(t, "redis_streams", state.Reasons[0].Check)
		require.NotEmpty(t, state.Reasons[0].Fix)
	}
}

// TestKillingAStreamWorkerLosesNothing kills one of two workers again and again: the other takes what it had.
func TestKillingAStreamWorkerLosesNothing(t *testing.T) {
	exact(t)
	s := newStreamWorld(t)
	s.begin(t, s.server.Address(), "one", "two")
	names := []string{"one", "two"}
	for i := range pick(1, 20) {
		name := names[i%2]
		killed := s.kill(s.workers[name])
		s.worker(t, name, s.server.Address())
		s.delivers(t, killed, name)
		wait(t.Context(), pick(300*time.Millisecond, 3*time.Second))
	}
	v := s.finish(t, "Redis Streams: kill -9 of one of two workers", false)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// TestAStoppedStreamServerMakesNobodyDead stops Redis for longer than workers may be silent: none takes from the other what
// that one still has.
func TestAStoppedStreamServerMakesNobodyDead(t *testing.T) {
	scenario(t)
	s := newStreamWorld(t)
	s.begin(t, s.server.Address(), "one", "two")
	for range pick(1, 6) {
		s.receiver.delay(200*time.Millisecond, 400*time.Millisecond) // much is in flight
		s.producers.grows(t, 200)
		s.server.Signal(t, syscall.SIGSTOP)
		s.unready(t)
		wait(t.Context(), pick(streamAckWait, 10*time.Second))
		s.receiver.delay(0, 20*time.Millisecond)
		s.server.Signal(t, syscall.SIGCONT)
		s.goOn(t)
	}
	v := s.finish(t, "Redis Streams: server stopped (SIGSTOP) beyond ack_wait, continued", false)
	require.LessOrEqual(t, v.duplicates, len(s.excused), "workers kept their memory")
}

// TestACrashOfTheStreamServerLosesNothing kills Redis, which has on its disk what it confirmed, and starts it again.
func TestACrashOfTheStreamServerLosesNothing(t *testing.T) {
	scenario(t)
	s := newStreamWorld(t)
	s.begin(t, s.server.Address(), "one", "two")
	for range pick(1, 10) {
		s.receiver.delay(200*time.Millisecond, 400*time.Millisecond) // much is in flight
		s.producers.grows(t, 200)
		s.server.Stop(t)
		s.unready(t)
		wait(t.Context(), pick(streamAckWait, 2*streamAckWait))
		s.receiver.delay(0, 20*time.Millisecond)
		s.server.Start(t)
		s.goOn(t)
	}
	v := s.finish(t, "Redis Streams: kill -9 of the server, appendfsync always", false)
	require.LessOrEqual(t, v.duplicates, len(s.excused), "workers kept their memory")
}

// goOn waits until Redis is used again, and everything with it.
func (s *streamWorld) goOn(t *testing.T) {
	t.Helper()
	back := time.Now()
	for name, o := range s.workers {
		s.delivers(t, back, name)
		o.becomes(t, 200)
	}
	s.producers.grows(t, 100)
}

// TestResetsOnTheWayToTheStreamLoseNothing resets the connections of a worker again and again.
func TestResetsOnTheWayToTheStreamLoseNothing(t *testing.T) {
	onlyLong(t)
	scenario(t)
	s := newStreamWorld(t)
	proxy := newProxy(t, s.server.Address())
	s.begin(t, proxy.Listen, "one")
	for range pick(4, 60) {
		_, err := proxy.Toxics.AddToxicJson(strings.NewReader(resets))
		require.NoError(t, err)
		wait(t.Context(), pick(200*time.Millisecond, time.Second))
		require.NoError(t, proxy.Toxics.RemoveToxic(t.Context(), "bad"))
		s.delivers(t, time.Now(), "")
		wait(t.Context(), pick(200*time.Millisecond, time.Second))
	}
	v := s.finish(t, "Redis Streams: connections reset", true)
	require.LessOrEqual(t, v.duplicates, len(s.excused), "the worker kept its memory")
}

// TestRollingRestartsOfStreamWorkersRepeatNothing ends one worker after the other, and starts it again.
func TestRollingRestartsOfStreamWorkersRepeatNothing(t *testing.T) {
	scenario(t)
	s := newStreamWorld(t)
	s.begin(t, s.server.Address(), "one", "two")
	names := []string{"one", "two"}
	for i := range pick(2, 20) {
		name := names[i%2]
		code, _ := s.workers[name].terminate(t)
		require.Zero(t, code)
		require.NotContains(t, s.workers[name].text(), "level=ERROR")
		s.worker(t, name, s.server.Address())
		s.delivers(t, time.Now(), name)
	}
	v := s.finish(t, "Redis Streams: SIGTERM of two workers in turn", false)
	require.Zero(t, v.duplicates)
}

// TestARestartOfTheOnlyStreamWorkerKeepsTheOrder ends a worker that has read far ahead: the next one begins with that.
func TestARestartOfTheOnlyStreamWorkerKeepsTheOrder(t *testing.T) {
	scenario(t)
	s := newStreamWorld(t)
	s.producers.pause = 2 * time.Millisecond
	s.begin(t, s.server.Address(), "one")
	for range pick(1, 10) {
		s.receiver.delay(100*time.Millisecond, 200*time.Millisecond) // 16 at a time: it falls behind
		s.producers.grows(t, pick(500, 1500))
		code, _ := s.workers["one"].terminate(t)
		require.Zero(t, code)
		s.receiver.delay(0, 0)
		s.worker(t, "one", s.server.Address())
		s.delivers(t, time.Now(), "one")
	}
	v := s.finish(t, "Redis Streams: SIGTERM of the only worker, far behind", true)
	require.Zero(t, v.duplicates)
}

// TestAFullStreamServerHoldsOnlyItsProducersUp lets Redis run out of memory: it takes no more, and what it has is delivered.
func TestAFullStreamServerHoldsOnlyItsProducersUp(t *testing.T) {
	scenario(t)
	s := newStreamWorld(t)
	s.begin(t, s.server.Address(), "one")
	client := s.client(t)
	s.receiver.delay(200*time.Millisecond, 200*time.Millisecond)
	s.producers.grows(t, 100)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorContains(t, client.Set(t.Context(), "test", "1", time.Second).Err(), "OOM")
	wait(t.Context(), 100*time.Millisecond)
	full := s.journal.size()
	s.receiver.delay(0, 0)
	testenv.Eventually(t, within, func() error {
		if n := client.XLen(t.Context(), "events").Val(); n > 0 {
			return fmt.Errorf("%d events are in the stream", n)
		}
		return nil
	})
	require.Equal(t, full, s.journal.size(), "nothing was taken")
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	s.producers.grows(t, 100)
	v := s.finish(t, "Redis Streams: server out of memory", true)
	require.Zero(t, v.duplicates)
}
