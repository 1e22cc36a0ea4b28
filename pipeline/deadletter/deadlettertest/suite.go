// Package deadlettertest is the conformance suite of [deadletter.Store]. Every transport that keeps dead letters runs it.
package deadlettertest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/retrytest"
)

// Broker gives one test an empty store, how dead letters come into it, and the retry queue that delivers replays.
type Broker func(t *testing.T) (deadletter.Store, middleware.DeadLetters, retrytest.Queue)

// Run runs the suite.
func Run(t *testing.T, broker Broker) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *rig){
		"a dead letter is kept once, with every attempt, and its delivery is parked no more": keepsOnce,
		"a replay counts its own attempts and keeps those before":                            countsReplays,
		"what holds no data is not delivered again":                                          refusesUnreadable,
		"concurrent retries of one dead letter run it once":                                  retriesOnce,
		"a replay that fails again stays a dead letter":                                      staysWhenItFails,
		"Remove returns what it removed":                                                     removes,
		"Remove stops a replay that is parked":                                               stopsParked,
		"Remove refuses while a replay is in work":                                           refusesInWork,
		"RemoveAll keeps what is being delivered again":                                      removesAtRest,
		"concurrent retries of all park each once":                                           retriesAllOnce,
		"what is parked because its event came again is not retried":                         leavesParked,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, broker))
		})
	}
	t.Run("List", func(t *testing.T) {
		t.Parallel()
		lists(t, newRig(t, broker))
	})
	t.Run("Stats", func(t *testing.T) {
		t.Parallel()
		counts(t, newRig(t, broker))
	})
	t.Run("RetryAll", func(t *testing.T) {
		t.Parallel()
		selects(t, broker)
	})
}

const patience = 20 * time.Second

type rig struct {
	t     *testing.T
	store deadletter.Store
	dead  middleware.DeadLetters
	queue retrytest.Queue
}

func newRig(t *testing.T, broker Broker) *rig {
	t.Helper()
	r := &rig{t: t}
	r.store, r.dead, r.queue = broker(t)
	return r
}

func (r *rig) put(d *event.Delivery) {
	r.t.Helper()
	require.NoError(r.t, r.dead.Put(r.t.Context(), d))
}

func (r *rig) list() []deadletter.Letter {
	r.t.Helper()
	items, _, err := r.store.List(r.t.Context(), deadletter.Filter{})
	require.NoError(r.t, err)
	return items
}

func (r *rig) only() deadletter.Letter {
	r.t.Helper()
	items := r.list()
	require.Len(r.t, items, 1)
	return items[0]
}

func (r *rig) retry(id int64) {
	r.t.Helper()
	parked, err := r.store.Retry(r.t.Context(), id)
	require.NoError(r.t, err)
	require.True(r.t, parked)
}

// waits waits until n deliveries are in the queue: an ack takes effect a moment later.
func (r *rig) waits(n int) {
	r.t.Helper()
	testenv.Eventually(r.t, patience, func() error {
		got, _, err := r.queue.Waiting(r.t.Context())
		if err == nil && int(got) != n {
			err = fmt.Errorf("%d wait, not %d", got, n)
		}
		return err
	})
}

// buried is one dead letter; it returns the delivery and the dead letter's ID.
func (r *rig) buried() (*event.Delivery, int64) {
	r.t.Helper()
	d := retrytest.Delivery("7", "shipped", "notify")
	r.put(d)
	return d, r.only().ID
}

func failed(d *event.Delivery, text string) {
	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now().UTC().Truncate(time.Microsecond), Error: text, Class: "c"})
}

func keepsOnce(t *testing.T, r *rig) {
	t.Helper()
	d := retrytest.Delivery("7", "shipped", "notify")
	require.NoError(t, r.queue.Park(t.Context(), d, time.Now()))
	items := retrytest.Fetch(t, r.queue, 1)
	failed(d, "gone")
	r.put(d)
	id := r.only().ID
	r.put(d)
	require.Equal(t, id, r.only().ID, "twice is once")
	r.waits(0)
	require.NoError(t, r.queue.Ack(t.Context(), items))

	got, err := r.store.Get(t.Context(), id)
	require.NoError(t, err)
	require.JSONEq(t, string(d.Event.JSON()), string(got.Event))
	require.Equal(t, d.Attempts, got.History)
	require.Equal(t, "gone c 2 false", fmt.Sprint(got.Error, " ", got.ErrorClass, " ", got.Attempts, " ", got.Retrying))
	require.Equal(t, []string{d.Event.ID, "shipped", "notify", "Order"}, []string{got.EventID, got.Observer, got.Action, got.Entity})
	require.WithinDuration(t, d.Attempts[0].At, got.FirstFailedAt, 0)
	require.WithinDuration(t, d.Attempts[1].At, got.LastFailedAt, 0)
	_, err = r.store.Get(t.Context(), id+1000)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func countsReplays(t *testing.T, r *rig) {
	t.Helper()
	_, id := r.buried()
	for g := 1; g <= 2; g++ {
		r.retry(id)
		for try := range 2 {
			items := retrytest.Fetch(t, r.queue, 1)
			d := retrytest.Of(items[0])
			require.Equal(t, []int{g, try}, []int{d.Generation, d.Tries()})
			failed(d, fmt.Sprint("replay ", g, " try ", try))
			if try == 0 {
				require.NoError(t, r.queue.Park(t.Context(), d, time.Now().Add(10*time.Millisecond)))
				item := r.only()
				require.Equal(t, d.Attempts[len(d.Attempts)-1].Error, item.LastError, "shown while the replay is parked")
				require.Equal(t, len(d.Attempts), item.Attempts)
				require.False(t, item.NextAttempt.IsZero())
				require.NotEqual(t, item.Error, item.LastError)
			} else {
				r.put(d)
			}
			require.NoError(t, r.queue.Ack(t.Context(), items))
		}
	}
	got, err := r.store.Get(t.Context(), id)
	require.NoError(t, err)
	texts, generations := []string{}, []int{}
	for _, a := range got.History {
		texts, generations = append(texts, a.Error), append(generations, a.Generation)
	}
	require.Equal(t, []string{"503", "replay 1 try 0", "replay 1 try 1", "replay 2 try 0", "replay 2 try 1"}, texts)
	require.Equal(t, []int{0, 1, 1, 2, 2}, generations)
	require.True(t, got.NextAttempt.IsZero())
	require.Equal(t, got.Error, got.LastError)
}

func refusesUnreadable(t *testing.T, r *rig) {
	t.Helper()
	d := retrytest.Delivery("7", "", "")
	d.Event.Data = nil
	d.Attempts = []event.Attempt{{At: time.Now(), Error: "the change was captured without its data", Class: deadletter.ClassUnreadable}}
	r.put(d)
	item := r.only()
	_, err := r.store.Retry(t.Context(), item.ID)
	require.ErrorContains(t, err, `holds no data that could be delivered: "the change was captured without its data"`)
	whole, getErr := r.store.Get(t.Context(), item.ID)
	require.NoError(t, getErr)
	require.ErrorContains(t, err, whole.Replayable().Error())
	r.waits(0)
}

func retriesOnce(t *testing.T, r *rig) {
	t.Helper()
	d, id := r.buried()
	var parked atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			ok, err := r.store.Retry(t.Context(), id)
			if err != nil {
				t.Error(err)
			}
			if ok {
				parked.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), parked.Load())
	require.True(t, r.only().Retrying)

	got := retrytest.FetchAndAck(t, r.queue)
	require.Equal(t, d.ID(), got.ID())
	require.Equal(t, 1, got.Generation)
	require.Equal(t, d.Attempts, got.Attempts)
	require.JSONEq(t, string(d.Event.JSON()), string(got.Event.JSON()))
	require.Empty(t, r.list(), "it succeeded")
	_, err := r.store.Retry(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
	r.waits(0)
}

func staysWhenItFails(t *testing.T, r *rig) {
	t.Helper()
	_, id := r.buried()
	r.retry(id)
	items := retrytest.Fetch(t, r.queue, 1)
	require.NoError(t, r.queue.Park(t.Context(), retrytest.Of(items[0]), time.Now()), "the first attempt of the replay failed")
	require.NoError(t, r.queue.Ack(t.Context(), items))
	require.True(t, r.only().Retrying, "parked is not succeeded")

	items = retrytest.Fetch(t, r.queue, 1)
	d := retrytest.Of(items[0])
	failed(d, "again")
	r.put(d)
	require.NoError(t, r.queue.Ack(t.Context(), items))
	item := r.only()
	require.Equal(t, id, item.ID)
	require.False(t, item.Retrying)
	require.Equal(t, 1, item.Generation)
	require.Equal(t, "again", item.Error)

	r.retry(id)
	require.Equal(t, 2, retrytest.FetchAndAck(t, r.queue).Generation)
	require.Empty(t, r.list())
}

func leavesParked(t *testing.T, r *rig) {
	t.Helper()
	d, id := r.buried()
	require.NoError(t, r.queue.Park(t.Context(), d, time.Now().Add(time.Hour)))
	parked, err := r.store.Retry(t.Context(), id)
	require.NoError(t, err)
	require.False(t, parked)
	n, err := r.store.RetryAll(t.Context(), deadletter.Filter{}, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	r.waits(1)
}
