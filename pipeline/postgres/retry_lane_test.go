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

// parkLane parks a lane of three in a database where generation 1 leads, and returns their event ids.
func parkLane(t *testing.T, q *RetryQueue) (ids []string) {
	t.Helper()
	list := laned("a", 3)
	for _, s := range list {
		ids = append(ids, s.Delivery.Event.ID)
	}
	require.NoError(t, q.Spill(t.Context(), list))
	return ids
}

func TestTheNextOfALaneGoesOnHoweverTheFirstLeft(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, q *RetryQueue, first *event.Delivery){
		"with success": func(*testing.T, *RetryQueue, *event.Delivery) {},
		"as a dead letter": func(t *testing.T, q *RetryQueue, first *event.Delivery) {
			t.Helper()
			first.Attempts = []event.Attempt{{At: time.Now(), Error: "404"}}
			require.NoError(t, q.dead.Put(t.Context(), first))
		},
		"parked, to be overtaken": func(t *testing.T, q *RetryQueue, first *event.Delivery) {
			t.Helper()
			first.Lane, first.Attempts = "", []event.Attempt{{At: time.Now(), Error: "503"}}
			require.NoError(t, q.Park(t.Context(), first, time.Now().Add(time.Hour)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newQueue(t, leading(t), 1)
			ids := parkLane(t, q)
			items := fetchSome(t, q, 10)
			require.Len(t, items, 1)
			first := *event.FromContext(items[0].Msg.Context())
			leave(t, q, &first)
			require.NoError(t, q.Ack(t.Context(), items))
			for _, id := range ids[1:] {
				require.Equal(t, id, fetchAndAck(t, q).Event.ID)
			}
		})
	}
}

func TestALaneWhoseFirstWasRemovedByHandGoesOn(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	ids := parkLane(t, newQueue(t, pool, 1))
	execSQL(t, pool, `delete from core.tb_observer_retry where event_id = $1`, ids[0])
	q := newQueue(t, pool, 1) // of the next process
	require.Equal(t, ids[1], fetchAndAck(t, q).Event.ID)
	execSQL(t, pool, `insert into core.tb_observer_retry (listener, event_id, observer, action, entity, event, not_before, lane, follows)
		select listener, 'late', observer, action, entity, jsonb_set(event, '{id}', '"late"'), now(), lane, true from core.tb_observer_retry`)
	execSQL(t, pool, `delete from core.tb_observer_retry where event_id = $1`, ids[2])
	fetchNothing(t, q, 200*time.Millisecond)
	q.healed = time.Now().Add(-healEvery)
	require.Equal(t, "late", fetchAndAck(t, q).Event.ID)
}

// TestALongLaneIsNotLookedThroughEachTime takes half a minute where each claim looks at the whole lane.
func TestALongLaneIsNotLookedThroughEachTime(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	ids := parkLane(t, q)
	const more = 50_000
	execSQL(t, pool, `insert into core.tb_observer_retry (listener, event_id, observer, action, entity, event, not_before, lane, follows)
		select listener, 'n' || n, observer, action, entity, event, now(), lane, true
		  from core.tb_observer_retry, generate_series(1, $2::int) n where event_id = $1`, ids[0], more)
	execSQL(t, pool, `analyze core.tb_observer_retry`)
	start := time.Now()
	for range 200 {
		fetchAndAck(t, q)
	}
	require.Less(t, time.Since(start), 10*time.Second)
	require.Equal(t, more+3-200, parkedRows(t, pool))
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
