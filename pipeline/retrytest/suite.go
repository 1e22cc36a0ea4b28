// Package retrytest is the conformance suite of retry queues. Every transport runs it.
package retrytest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// Queue is what a transport gives the pipeline.
type Queue interface {
	middleware.RetryQueue
	window.Driver
	Spill(ctx context.Context, list []dispatch.Spilled) error
	Lanes(ctx context.Context) ([]dispatch.Lane, error)
	Avoid(busy func() []string)
	Waiting(ctx context.Context) (n int64, oldest time.Duration, err error)
}

// Broker opens the queue of one test, each time as another process would that follows the one before.
type Broker func(t *testing.T) (open func() Queue)

// late is how much later than it is due a delivery may come: a second by the clock of the server, and what a busy machine adds.
const late = 3 * time.Second

const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, broker Broker) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() Queue){
		"a delivery comes back whole, when it is due and not before":       comesWhenDue,
		"there is one entry a delivery":                                    parksOnce,
		"one that is given back comes again after the delay":               givesBack,
		"what is acked is gone, also for the next process":                 forgets,
		"what a process had in hand at its end goes to the next":           handsOver,
		"Spill keeps the order, and what is there already as it is":        spillsInOrder,
		"of a lane only the first is handed out":                           keepsLanes,
		"the next of a lane goes on when the first gives the lane up":      letsOvertake,
		"what is for a busy endpoint stays, and comes when that is free":   avoidsBusy,
		"Waiting counts what is parked and what is in hand, lanes as well": countsWaiting,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, broker(t))
		})
	}
}

// Delivery is one that failed once, of an event of its own.
func Delivery(entityID, observer, action string) *event.Delivery {
	return &event.Delivery{
		Event: &event.Event{
			ID: uuid.NewString(), Type: event.Update, Entity: "Order", EntityID: entityID, Timestamp: time.Now().UTC().Truncate(time.Microsecond),
			Data: json.RawMessage(`{"n":12345678901234567890}`),
		},
		Observer: observer, Action: action,
		Attempts: []event.Attempt{{At: time.Now().UTC().Truncate(time.Microsecond), Error: "503", Class: "http_503"}},
	}
}

// Lane are n deliveries of one lane that have not failed.
func Lane(lane string, n int) []dispatch.Spilled {
	list := make([]dispatch.Spilled, n)
	for i := range list {
		d := Delivery(strconv.Itoa(i), "shipped", "notify")
		d.Lane, d.Attempts = lane, nil
		list[i] = dispatch.Spilled{Delivery: d, NotBefore: time.Now()}
	}
	return list
}

// Fetch waits for at least one, and fails the test when none comes.
func Fetch(t *testing.T, q window.Driver, limit int) []window.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	items, err := q.Fetch(ctx, limit)
	require.NoError(t, err)
	return items
}

// FetchNothing fails the test when something comes.
func FetchNothing(t *testing.T, q window.Driver, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	items, err := q.Fetch(ctx, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, items)
}

// Of returns the delivery of an item.
func Of(item window.Item) *event.Delivery { return event.FromContext(item.Msg.Context()) }

// FetchAndAck settles the next.
func FetchAndAck(t *testing.T, q window.Driver) *event.Delivery {
	t.Helper()
	items := Fetch(t, q, 1)
	require.Len(t, items, 1)
	require.NoError(t, q.Ack(t.Context(), items))
	return Of(items[0])
}

// waits waits until n deliveries are in the queue: an ack takes effect a moment later.
func waits(t *testing.T, q Queue, n int) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		switch got, _, err := q.Waiting(t.Context()); {
		case err != nil:
			return err
		case int(got) != n:
			return fmt.Errorf("%d wait, not %d", got, n)
		}
		return nil
	})
}

func comesWhenDue(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	d, later := Delivery("7", "shipped", "notify"), Delivery("8", "shipped", "notify")
	due := time.Now().Add(1500 * time.Millisecond)
	require.NoError(t, q.Park(t.Context(), later, time.Now().Add(time.Hour)))
	require.NoError(t, q.Park(t.Context(), d, due))
	items := Fetch(t, q, 10)
	require.Len(t, items, 1)
	require.False(t, time.Now().Before(due), "too early")
	require.Less(t, time.Since(due), late)
	got := Of(items[0])
	require.JSONEq(t, string(d.Event.JSON()), string(got.Event.JSON()))
	require.Equal(t, []any{d.Observer, d.Action, d.Generation, d.Lane, d.Attempts}, []any{got.Observer, got.Action, got.Generation, got.Lane, got.Attempts})
	require.Equal(t, d.Event.ID, items[0].Msg.UUID)
	require.NoError(t, q.Ack(t.Context(), items))
	waits(t, q, 1)
}

func parksOnce(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	d := Delivery("7", "shipped", "notify")
	require.NoError(t, q.Park(t.Context(), d, time.Now().Add(time.Hour)))
	require.NoError(t, q.Park(t.Context(), d, time.Now()), "earlier")
	waits(t, q, 1)
	items := Fetch(t, q, 10)
	require.Len(t, items, 1)

	again := *Of(items[0])
	again.Attempts = append(again.Attempts, event.Attempt{At: time.Now().UTC().Truncate(time.Microsecond), Error: "again", Class: "c"})
	require.NoError(t, q.Park(t.Context(), &again, time.Now()), "at once, before it has settled")
	require.NoError(t, q.Ack(t.Context(), items))
	require.Equal(t, again.Attempts, FetchAndAck(t, q).Attempts)
	waits(t, q, 0)

	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	require.NoError(t, q.Park(t.Context(), d, time.Now().Add(time.Hour)), "later")
	FetchNothing(t, q, 200*time.Millisecond)
	waits(t, q, 1)
}

func givesBack(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	d := Delivery("7", "shipped", "notify")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	items := Fetch(t, q, 1)
	due := time.Now().Add(1200 * time.Millisecond)
	require.NoError(t, q.Nack(t.Context(), items[0], 1200*time.Millisecond))
	FetchNothing(t, q, 300*time.Millisecond)
	got := FetchAndAck(t, q)
	require.False(t, time.Now().Before(due), "too early")
	require.Less(t, time.Since(due), late)
	require.Equal(t, d.Attempts, got.Attempts, "that was no attempt")
	waits(t, q, 0)
}

func forgets(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	require.NoError(t, q.Park(t.Context(), Delivery("7", "shipped", "notify"), time.Now()))
	FetchAndAck(t, q)
	require.NoError(t, q.Close(t.Context()))
	q = open()
	FetchNothing(t, q, 200*time.Millisecond)
	waits(t, q, 0)
}

func handsOver(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	d := Delivery("7", "shipped", "notify")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	Fetch(t, q, 1)
	require.NoError(t, q.Close(t.Context()))
	require.Equal(t, d.ID(), FetchAndAck(t, open()).ID())
}

func spillsInOrder(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	const n = 500
	list := make([]dispatch.Spilled, n)
	var want, got []string
	due := time.Now()
	for i := range list {
		list[i] = dispatch.Spilled{Delivery: Delivery(strconv.Itoa(i), "shipped", "notify"), NotBefore: due}
		want = append(want, list[i].Delivery.Event.ID)
	}
	require.NoError(t, q.Spill(t.Context(), list))
	require.NoError(t, q.Spill(t.Context(), list[:1]), "once more changes nothing")
	waits(t, q, n)
	for len(got) < n {
		items := Fetch(t, q, 100)
		for _, item := range items {
			got = append(got, Of(item).Event.ID)
		}
		require.NoError(t, q.Ack(t.Context(), items))
	}
	require.Equal(t, want, got)
	waits(t, q, 0)
}

func keepsLanes(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	list, other := Lane("a", 3), Lane("b", 1)
	require.NoError(t, q.Spill(t.Context(), append(slices.Clone(list), other...)))
	require.NoError(t, q.Spill(t.Context(), list[:1]), "once more changes nothing")
	lanes, err := q.Lanes(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []dispatch.Lane{{Observer: "shipped", Action: "notify", Name: "a", Parked: 3}, {Observer: "shipped", Action: "notify", Name: "b", Parked: 1}}, lanes)

	var items []window.Item
	var ids []string
	for len(items) < 2 {
		for _, item := range Fetch(t, q, 10) {
			items, ids = append(items, item), append(ids, Of(item).Event.ID)
		}
	}
	require.ElementsMatch(t, []string{list[0].Delivery.Event.ID, other[0].Delivery.Event.ID}, ids)
	for _, item := range items {
		if again := *Of(item); again.Lane == "a" {
			again.Attempts = []event.Attempt{{At: time.Now(), Error: "503"}}
			require.NoError(t, q.Park(t.Context(), &again, time.Now().Add(time.Second)), "it keeps its place")
		}
	}
	require.NoError(t, q.Ack(t.Context(), items))
	FetchNothing(t, q, 200*time.Millisecond)
	for i, want := range list {
		got := FetchAndAck(t, q)
		require.Equal(t, want.Delivery.Event.ID, got.Event.ID)
		require.Equal(t, i == 0, len(got.Attempts) == 1)
	}
	lanes, err = q.Lanes(t.Context())
	require.NoError(t, err)
	require.Empty(t, lanes)
	waits(t, q, 0)
}

func letsOvertake(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	list := Lane("a", 3)
	require.NoError(t, q.Spill(t.Context(), list))
	items := Fetch(t, q, 10)
	require.Len(t, items, 1)
	first := *Of(items[0])
	first.Lane, first.Attempts = "", []event.Attempt{{At: time.Now(), Error: "503"}}
	require.NoError(t, q.Park(t.Context(), &first, time.Now().Add(time.Hour)))
	require.NoError(t, q.Ack(t.Context(), items))
	for _, want := range list[1:] {
		require.Equal(t, want.Delivery.Event.ID, FetchAndAck(t, q).Event.ID)
	}
	waits(t, q, 1)
}

func avoidsBusy(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	busy := make(chan bool, 1)
	busy <- true
	q.Avoid(func() []string {
		is := <-busy
		busy <- is
		if is {
			return []string{dispatch.Topic("shipped", "notify")}
		}
		return nil
	})
	held, free := Delivery("7", "shipped", "notify"), Delivery("8", "shipped", "mail")
	require.NoError(t, q.Park(t.Context(), held, time.Now()))
	require.NoError(t, q.Park(t.Context(), free, time.Now()))
	require.Equal(t, free.ID(), FetchAndAck(t, q).ID())
	FetchNothing(t, q, 100*time.Millisecond)
	<-busy
	busy <- false
	require.Equal(t, held.ID(), FetchAndAck(t, q).ID())
}

func countsWaiting(t *testing.T, open func() Queue) {
	t.Helper()
	q := open()
	n, oldest, err := q.Waiting(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, oldest)
	require.NoError(t, q.Park(t.Context(), Delivery("7", "shipped", "notify"), time.Now().Add(time.Hour)))
	require.NoError(t, q.Spill(t.Context(), Lane("a", 3)))
	require.Len(t, Fetch(t, q, 10), 1)
	n, oldest, err = q.Waiting(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, n)
	require.Positive(t, oldest)
}
