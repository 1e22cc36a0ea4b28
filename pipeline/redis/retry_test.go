package redis_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/redis"
)

func TestParkedDeliveriesComeBackWhenDueInThatOrder(t *testing.T) {
	t.Parallel()
	q := newQueue(t, open(t, testenv.Redis(t)), streamName())
	start := time.Now()
	for _, s := range []int{3, 1, 2} {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(s), "o", "a"), start.Add(time.Duration(s)*300*time.Millisecond)))
	}
	for _, s := range []int{1, 2, 3} {
		items := fetch(t, q, 1)
		require.Equal(t, strconv.Itoa(s), entityIDs(items))
		late := time.Since(start) - time.Duration(s)*300*time.Millisecond
		require.Positive(t, late+10*time.Millisecond, "not before it is due")
		require.Less(t, late, time.Second)
		require.NoError(t, q.Ack(t.Context(), items))
	}
	require.Zero(t, waiting(t, q))
}

func TestADeliveryComesBackAsItWasParked(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	q := newQueue(t, client, stream)
	d := delivery("7", "shipped", "notify")
	d.Lane = "Order\x1f7"
	d.Event.Data = []byte(`{"text":"\u0000 ü","n":1e400,"list":[]}`)
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	got := fetchAndAck(t, q)
	require.Equal(t, string(d.Event.JSON()), string(got.Event.JSON()))
	require.Equal(t, []string{d.Observer, d.Action, d.Lane}, []string{got.Observer, got.Action, got.Lane})
	require.Equal(t, d.Attempts, got.Attempts)
	require.Zero(t, got.Prior)
	for _, key := range keysOf(t, client, stream) {
		require.Contains(t, []string{stream + ":retries:alive", stream + ":retries:claims", stream + ":retries:places"}, key, "nothing else is left")
	}
}

func TestALaneLeavesOneByOneInOrder(t *testing.T) {
	t.Parallel()
	q := newQueue(t, open(t, testenv.Redis(t)), streamName())
	var list []dispatch.Spilled
	for i := range 4 {
		d := delivery(strconv.Itoa(i), "o", "a")
		d.Lane = "lane"
		list = append(list, dispatch.Spilled{Delivery: d, NotBefore: time.Now().Add(-time.Duration(i) * time.Minute)})
	}
	require.NoError(t, q.Spill(t.Context(), list))
	lanes, err := q.Lanes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []dispatch.Lane{{Observer: "o", Action: "a", Name: "lane", Parked: 4}}, lanes)

	first := fetch(t, q, 1)
	require.Equal(t, "0", entityIDs(first))
	nothing(t, q)
	require.NoError(t, q.Park(t.Context(), deliveryOf(first[0]), time.Now()), "it keeps its place")
	require.NoError(t, q.Ack(t.Context(), first))
	require.Equal(t, "0", fetchAndAck(t, q).Event.EntityID)
	given := fetch(t, q, 1)
	require.Equal(t, "1", entityIDs(given))
	require.NoError(t, q.Nack(t.Context(), given[0], 0))
	free := *deliveryOf(given[0])
	free.Lane = ""
	require.NoError(t, q.Park(t.Context(), &free, time.Now().Add(time.Hour)), "it gives its lane up")
	require.Equal(t, "2", fetchAndAck(t, q).Event.EntityID)
	require.Equal(t, "3", fetchAndAck(t, q).Event.EntityID)
	lanes, err = q.Lanes(t.Context())
	require.NoError(t, err)
	require.Empty(t, lanes)
	require.Equal(t, 1, waiting(t, q))
}

func TestWorkersShareAQueueAndTakeEachDeliveryOnce(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	const n = 1000
	var list []dispatch.Spilled
	for i := range n {
		list = append(list, dispatch.Spilled{Delivery: delivery(strconv.Itoa(i), "o", "a"), NotBefore: time.Now()})
	}
	require.NoError(t, newQueue(t, client, stream).Spill(t.Context(), list))
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	var mu sync.Mutex // guards seen
	seen := map[string]int{}
	var workers sync.WaitGroup
	for range 4 {
		q := newQueue(t, client, stream)
		workers.Go(func() {
			for ctx.Err() == nil {
				items, err := q.Fetch(ctx, 50)
				if err != nil || q.Ack(t.Context(), items) != nil {
					return
				}
				mu.Lock()
				for _, item := range items {
					seen[item.Msg.UUID]++
				}
				if len(seen) == n {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	require.Len(t, seen, n)
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
}

func TestWhatADeadWorkerHadComesToAnotherAsTheSameDelivery(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	d := delivery("7", "o", "a")
	alive := newQueue(t, client, stream)
	require.NoError(t, alive.Park(t.Context(), d, time.Now()))
	begun := time.Now()
	held := fetch(t, dying(t, client, stream), 1)
	got := fetch(t, alive, 1)
	require.Greater(t, time.Since(begun), ackWait)
	require.Equal(t, deliveryOf(held[0]).ID(), deliveryOf(got[0]).ID())
	nothing(t, alive)
	require.NoError(t, alive.Ack(t.Context(), got))
	require.Zero(t, waiting(t, alive))
}

func TestALivingWorkerKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	one, other := newQueue(t, client, stream), newQueue(t, client, stream)
	require.NoError(t, one.Park(t.Context(), delivery("7", "o", "a"), time.Now()))
	items := fetch(t, one, 1)
	for end := time.Now().Add(2 * ackWait); time.Now().Before(end); {
		nothing(t, other)
	}
	require.NoError(t, one.Nack(t.Context(), items[0], 0))
	fetchAndAck(t, other)
}

func TestWhatAWorkerGivesBackAtItsEndIsThereAtOnce(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	q, err := redis.NewRetryQueue(redis.RetryQueueConfig{Client: client, Stream: stream, AckWait: time.Hour})
	require.NoError(t, err)
	require.NoError(t, q.Park(t.Context(), delivery("7", "o", "a"), time.Now()))
	fetch(t, q, 1)
	require.NoError(t, q.Close(t.Context()))
	fetchAndAck(t, newQueue(t, client, stream))
}

func TestADeliveryThatEndsItsProcessEachTimeBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	require.NoError(t, newQueue(t, client, stream).Park(t.Context(), delivery("7", "o", "a"), time.Now()))
	for range 3 {
		fetch(t, dying(t, client, stream), 1)
	}
	last := newQueue(t, client, stream)
	dead := &redis.DeadLetters{Client: client, Stream: stream}
	ctx := soon(t)
	go func() { _, _ = last.Fetch(ctx, 1) }()
	testenv.Eventually(t, 20*time.Second, func() error {
		items, _, err := dead.List(t.Context(), deadletter.Filter{})
		if err == nil && len(items) == 0 {
			err = deadletter.ErrNotFound
		}
		return err
	})
	items, _, err := dead.List(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, "poison", items[0].ErrorClass)
	require.Zero(t, waiting(t, last))
}

func TestParkedDeliveriesOutliveTheServer(t *testing.T) {
	t.Parallel()
	server := durable(t)
	client, stream := open(t, server.URL()), streamName()
	q := newQueue(t, client, stream)
	for i := range 3 {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now().Add(time.Duration(i-10)*time.Second)))
	}
	out := fetch(t, q, 1)
	server.Stop(t)
	require.Error(t, q.Ack(t.Context(), out))
	_, err := q.Fetch(soon(t), 1)
	require.Error(t, err)
	server.Start(t)
	require.Equal(t, "1", fetchAndAck(t, q).Event.EntityID, "what was done is told now")
	require.Equal(t, "2", fetchAndAck(t, q).Event.EntityID)
	require.Zero(t, waiting(t, q))
}
