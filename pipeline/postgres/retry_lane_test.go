package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

func laned(lane string, n int) []dispatch.Spilled {
	list := make([]dispatch.Spilled, n)
	for i := range list {
		d := delivery(strconv.Itoa(i), "shipped", "notify")
		d.Lane, d.Attempts = lane, nil
		list[i] = dispatch.Spilled{Delivery: d, NotBefore: time.Now()}
	}
	return list
}

func idOf(item window.Item) string { return event.FromContext(item.Msg.Context()).Event.ID }

func TestOfALaneOnlyTheFirstIsHandedOut(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	list := laned("a", 3)
	other := laned("b", 1)
	require.NoError(t, q.Spill(t.Context(), append(list, other...)))
	require.NoError(t, q.Spill(t.Context(), list), "once more changes nothing")
	require.Equal(t, 4, parkedRows(t, pool))
	lanes, err := q.Lanes(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []dispatch.Lane{{Observer: "shipped", Action: "notify", Name: "a", Parked: 3}, {Observer: "shipped", Action: "notify", Name: "b", Parked: 1}}, lanes)

	items := fetchSome(t, q, 10)
	require.Len(t, items, 2)
	require.Equal(t, []string{list[0].Delivery.Event.ID, other[0].Delivery.Event.ID}, []string{idOf(items[0]), idOf(items[1])})

	again := *event.FromContext(items[0].Msg.Context())
	again.Attempts = []event.Attempt{{At: time.Now(), Error: "503"}}
	require.NoError(t, q.Park(t.Context(), &again, time.Now().Add(500*time.Millisecond)), "it keeps its place")
	require.NoError(t, q.Ack(t.Context(), items))
	fetchNothing(t, q, 200*time.Millisecond)
	for _, want := range list {
		require.Equal(t, want.Delivery.Event.ID, fetchAndAck(t, q).Event.ID)
	}
	require.Zero(t, parkedRows(t, pool))
}

func TestWhatIsForABusyEndpointStaysParked(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	busy := make(chan bool, 1)
	busy <- true
	q.Avoid(func() []string {
		is := <-busy
		busy <- is
		if is {
			return []string{"shipped/notify"}
		}
		return nil
	})
	require.NoError(t, q.Park(t.Context(), delivery("7", "shipped", "notify"), time.Now()))
	free := delivery("7", "shipped", "mail")
	require.NoError(t, q.Park(t.Context(), free, time.Now()))
	require.Equal(t, free.ID(), fetchAndAck(t, q).ID())
	fetchNothing(t, q, 100*time.Millisecond)
	<-busy
	busy <- false
	require.Equal(t, "notify", fetchAndAck(t, q).Action)
}
