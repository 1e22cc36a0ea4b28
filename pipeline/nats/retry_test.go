package nats

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/retrytest"
	"github.com/fraiseql/observer/pipeline/window"
)

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect(url, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond), natsgo.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

func openQueue(t *testing.T, js jetstream.JetStream, ackWait time.Duration) *RetryQueue {
	t.Helper()
	q, err := OpenRetryQueue(t.Context(), js, RetryQueueConfig{Stream: "events", Consumer: "worker", AckWait: ackWait, MaxDeliver: 3})
	require.NoError(t, err)
	t.Cleanup(q.stop)
	return q
}

func TestRetryQueue(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	js := connect(t, url)
	retrytest.Run(t, func(t *testing.T) func() retrytest.Queue {
		t.Helper()
		stream := "events_" + natsgo.NewInbox()[len(natsgo.InboxPrefix):]
		return func() retrytest.Queue {
			q, err := OpenRetryQueue(t.Context(), js, RetryQueueConfig{Stream: stream, Consumer: "worker", AckWait: 30 * time.Second, MaxDeliver: 3})
			require.NoError(t, err)
			t.Cleanup(q.stop)
			return q
		}
	})
}

func TestWorkersShareTheQueue(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	const n = 300
	first := openQueue(t, js, 30*time.Second)
	for i := range n {
		require.NoError(t, first.Park(t.Context(), retrytest.Delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for _, q := range []*RetryQueue{first, openQueue(t, js, 30*time.Second), openQueue(t, js, 30*time.Second)} {
		wg.Go(func() {
			for {
				mu.Lock()
				done := len(got) == n
				mu.Unlock()
				if done {
					return
				}
				items, err := q.look(t.Context(), 10)
				if err == nil {
					err = q.Ack(t.Context(), items)
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, item := range items {
					got[retrytest.Of(item).ID()]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, times := range got {
		require.Equal(t, 1, times, id)
	}
}

func TestLanesKeepTheirOrderAcrossWorkers(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	queues := []*RetryQueue{openQueue(t, js, 30*time.Second), openQueue(t, js, 30*time.Second), openQueue(t, js, 30*time.Second)}
	const n, lanes = 30, 4
	want, got := map[string][]string{}, map[string][]string{}
	for i := range lanes {
		list := retrytest.Lane(strconv.Itoa(i), n)
		for _, s := range list {
			want[s.Delivery.Lane] = append(want[s.Delivery.Lane], s.Delivery.Event.ID)
		}
		require.NoError(t, queues[i%len(queues)].Spill(t.Context(), list))
	}
	var mu sync.Mutex
	total := 0
	var wg sync.WaitGroup
	for _, q := range queues {
		wg.Go(func() {
			for {
				mu.Lock()
				done := total >= n*lanes
				mu.Unlock()
				if done {
					return
				}
				items, err := q.look(t.Context(), 10)
				mu.Lock()
				for _, item := range items {
					d := retrytest.Of(item)
					got[d.Lane] = append(got[d.Lane], d.Event.ID)
					total++
				}
				mu.Unlock()
				if err == nil {
					err = q.Ack(t.Context(), items)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, want, got)
}

// TestWhoWakesALaneLateChangesNothing has two workers find a lane asleep, of which one stores the entry of its first when that is
// in hand already.
func TestWhoWakesALaneLateChangesNothing(t *testing.T) {
	t.Parallel()
	for name, due := range map[string]time.Duration{"due": 0, "due soon": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natsenv.JetStream(t)
			a, b := openQueue(t, connect(t, url), 30*time.Second), openQueue(t, connect(t, url), 30*time.Second)
			e := newEntry(retrytest.Lane("lane", 1)[0].Delivery, time.Now().Add(due))
			future, err := a.spill(e)
			require.NoError(t, err)
			require.NoError(t, stored(t.Context(), future))
			require.NoError(t, a.wakeLane(t.Context(), e.laneKey()))
			items, err := a.Fetch(t.Context(), 10)
			require.NoError(t, err)
			require.Len(t, items, 1)
			require.NoError(t, b.wake(t.Context(), e))
			others, err := b.look(t.Context(), 10)
			require.NoError(t, err)
			require.Empty(t, others)
			require.NoError(t, a.Ack(t.Context(), items))
			require.NoError(t, b.wake(t.Context(), e))
			others, err = b.look(t.Context(), 10)
			require.NoError(t, err)
			require.Empty(t, others, "it has left its lane")
		})
	}
}

// abandon leaves what q has in hand as a process does that dies.
func abandon(q *RetryQueue) { q.stop() }

func TestWhatADeadWorkerHadGoesToAnother(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	q := openQueue(t, js, time.Second)
	d := retrytest.Delivery("7", "o", "a")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	require.Len(t, retrytest.Fetch(t, q, 1), 1)
	other := openQueue(t, js, time.Second)
	retrytest.FetchNothing(t, other, 2*time.Second)
	abandon(q)
	require.Equal(t, d.ID(), retrytest.FetchAndAck(t, other).ID())
}

// TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes counts the starts of the one that kills, and of those beside it.
func TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	killer := retrytest.Delivery("killer", "o", "a")
	q := openQueue(t, js, time.Second)
	for i := range 3 {
		require.NoError(t, q.Park(t.Context(), retrytest.Delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	require.NoError(t, q.Park(t.Context(), killer, time.Now()))
	starts, delivered := 0, 0
	for deadline := time.Now().Add(60 * time.Second); ; {
		require.True(t, time.Now().Before(deadline))
		n, _, err := q.Waiting(t.Context())
		require.NoError(t, err)
		if n == 0 {
			break
		}
		items, err := q.look(t.Context(), 10)
		require.NoError(t, err)
		if slices.ContainsFunc(items, func(i window.Item) bool { return retrytest.Of(i).ID() == killer.ID() }) {
			starts++
			abandon(q)
			q = openQueue(t, js, time.Second)
			continue
		}
		require.NoError(t, q.Ack(t.Context(), items))
		delivered += len(items)
	}
	require.Equal(t, []int{3, 3}, []int{starts, delivered})
	list, total, err := q.dead.List(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, []string{killer.Event.ID, "poison"}, []string{list[0].EventID, list[0].ErrorClass})
}

func TestSuspectsRunOneAtATime(t *testing.T) {
	t.Parallel()
	js := connect(t, natsenv.JetStream(t))
	q := openQueue(t, js, time.Second)
	const n = 3
	for i := range n {
		require.NoError(t, q.Park(t.Context(), retrytest.Delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	require.Len(t, retrytest.Fetch(t, q, 10), n)
	abandon(q)
	q = openQueue(t, js, time.Second)
	for range n {
		items := retrytest.Fetch(t, q, 10)
		require.Len(t, items, 1)
		retrytest.FetchNothing(t, q, 100*time.Millisecond)
		require.NoError(t, q.Ack(t.Context(), items))
	}
}

func TestWhatIsDueBeforeItsTurnIsNotHandedOut(t *testing.T) {
	t.Parallel()
	q := openQueue(t, connect(t, natsenv.JetStream(t)), 30*time.Second)
	list := retrytest.Lane("a", 2)
	require.NoError(t, q.Spill(t.Context(), list))
	items := retrytest.Fetch(t, q, 10)
	require.NoError(t, q.store(t.Context(), newEntry(list[1].Delivery, time.Now())), "woken by a worker that took it for the first")
	retrytest.FetchNothing(t, q, 100*time.Millisecond)
	require.NoError(t, q.Ack(t.Context(), items))
	require.Equal(t, list[1].Delivery.Event.ID, retrytest.FetchAndAck(t, q).Event.ID)
}

// TestALaneGoesOnAfterACrashAtAnyStep stops a worker between two of its writes.
func TestALaneGoesOnAfterACrashAtAnyStep(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(t *testing.T, q *RetryQueue, first *parkedEntry){
		"parked without its lane, which it still heads": func(t *testing.T, q *RetryQueue, first *parkedEntry) {
			t.Helper()
			left := *first
			left.Lane, left.Due = "", time.Now().Add(time.Hour)
			require.NoError(t, q.store(t.Context(), &left))
		},
		"gone from its lane, and nobody woke the next": func(t *testing.T, q *RetryQueue, first *parkedEntry) {
			t.Helper()
			require.NoError(t, q.stream.Purge(t.Context(), jetstream.WithPurgeSubject(q.subjects.lane(first.laneKey(), first.key()))))
		},
		"gone altogether": func(t *testing.T, q *RetryQueue, first *parkedEntry) {
			t.Helper()
			for _, subject := range []string{q.subjects.due(first.key()), q.subjects.lane(first.laneKey(), first.key())} {
				require.NoError(t, q.stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := connect(t, natsenv.JetStream(t))
			q := openQueue(t, js, time.Second)
			list := retrytest.Lane("a", 3)
			require.NoError(t, q.Spill(t.Context(), list))
			items := retrytest.Fetch(t, q, 10)
			require.Len(t, items, 1)
			crash(t, q, items[0].Raw.(*hand).parkedEntry)
			abandon(q)
			q = openQueue(t, js, time.Second)
			for _, want := range list[1:] {
				require.Equal(t, want.Delivery.Event.ID, retrytest.FetchAndAck(t, q).Event.ID)
			}
		})
	}
}

// TestSuiteOfManyThatAreParkedOverARestart parks twenty thousand, a tenth of that with -short: what is due leaves in time, and
// nothing is lost.
func TestSuiteOfManyThatAreParkedOverARestart(t *testing.T) {
	t.Parallel()
	s := natsenv.Start(t, server.Options{})
	js := connect(t, s.URL)
	q := openQueue(t, js, 30*time.Second)
	n := pick(testing.Short(), 2_000, 20_000)
	parked := make([]dispatch.Spilled, n)
	for i := range parked {
		parked[i] = dispatch.Spilled{Delivery: retrytest.Delivery(strconv.Itoa(i), "o", "a"), NotBefore: time.Now().Add(time.Hour)}
	}
	began := time.Now()
	for chunk := range slices.Chunk(parked, 256) {
		require.NoError(t, q.Spill(t.Context(), chunk))
	}
	t.Logf("%d parked in %s", n, time.Since(began).Round(time.Millisecond))
	due := time.Now().Add(2 * time.Second)
	soon := retrytest.Delivery("soon", "o", "a")
	require.NoError(t, q.Park(t.Context(), soon, due))

	s.Stop()
	s.Start()
	testenv.Eventually(t, 60*time.Second, func() error {
		_, err := q.stream.Info(t.Context())
		return err
	})
	require.Equal(t, soon.ID(), retrytest.FetchAndAck(t, q).ID())
	t.Logf("left %s after it was due", time.Since(due).Round(time.Millisecond))
	require.Less(t, time.Since(due), 20*time.Second, "sooner than after an ack wait")
	waiting, _, err := q.Waiting(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, n, waiting)
}

func TestServersWithoutSchedulesAreRefused(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{"2.11.9": false, "1.4.1": false, "2.12.0": true, "2.15.2": true, "3.0.0-beta": true, "": true} {
		require.Equal(t, ok, schedules(version) == nil, version)
	}
	require.ErrorContains(t, schedules("2.11.9"), "NATS server 2.11.9 knows no message schedules")
}
