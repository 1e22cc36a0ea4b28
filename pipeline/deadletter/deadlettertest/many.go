package deadlettertest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/retrytest"
)

func removes(t *testing.T, r *rig) {
	t.Helper()
	d, id := r.buried()
	removed, err := r.store.Remove(t.Context(), id)
	require.NoError(t, err)
	require.JSONEq(t, string(d.Event.JSON()), string(removed.Event))
	require.Equal(t, d.Attempts, removed.History)
	require.Empty(t, r.list())
	_, err = r.store.Remove(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrNotFound)
}

func stopsParked(t *testing.T, r *rig) {
	t.Helper()
	_, id := r.buried()
	r.retry(id)
	r.waits(1)
	_, err := r.store.Remove(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, r.list())
	r.waits(0)
	retrytest.FetchNothing(t, r.queue, 100*time.Millisecond)
}

func refusesInWork(t *testing.T, r *rig) {
	t.Helper()
	_, id := r.buried()
	r.retry(id)
	items := retrytest.Fetch(t, r.queue, 1)
	before := r.only()
	_, err := r.store.Remove(t.Context(), id)
	require.ErrorIs(t, err, deadletter.ErrInWork)
	require.Equal(t, before, r.only())
	r.waits(1)

	require.NoError(t, r.queue.Park(t.Context(), retrytest.Of(items[0]), time.Now().Add(time.Hour)), "it failed again")
	require.NoError(t, r.queue.Ack(t.Context(), items))
	retrytest.FetchNothing(t, r.queue, 100*time.Millisecond) // by then the ack has come
	_, err = r.store.Remove(t.Context(), id)
	require.NoError(t, err, "it only waits now")
	require.Empty(t, r.list())
	r.waits(0)
}

// many buries n deliveries, of which the first failed first.
func (r *rig) many(n int) (ids []string) {
	r.t.Helper()
	start := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	for i := n - 1; i >= 0; i-- { // the younger the failure, the lower the id
		d := retrytest.Delivery(strconv.Itoa(i), "shipped", "notify")
		d.Attempts[0].At = start.Add(time.Duration(i) * time.Second)
		r.put(d)
		ids = append([]string{d.Event.ID}, ids...)
	}
	return ids
}

func removesAtRest(t *testing.T, r *rig) {
	t.Helper()
	ids := r.many(25)
	n, err := r.store.RetryAll(t.Context(), deadletter.Filter{Limit: 5}, nil)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	plan, err := r.store.PlanRemove(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, 20, plan[0].Count)
	for _, limit := range []int{12, 0} {
		var told []int
		n, err = r.store.RemoveAll(t.Context(), deadletter.Filter{Limit: limit}, func(n int) { told = append(told, n) })
		require.NoError(t, err)
		require.Equal(t, map[int]int{12: 12, 0: 8}[limit], n)
		require.Equal(t, n, told[len(told)-1])
	}
	r.waits(5)
	var left []string
	for _, item := range r.list() {
		left = append([]string{item.EventID}, left...)
	}
	require.Equal(t, ids[:5], left)
}

func retriesAllOnce(t *testing.T, r *rig) {
	t.Helper()
	const letters = 60
	ids := r.many(letters)
	var parked atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			n, err := r.store.RetryAll(t.Context(), deadletter.Filter{}, nil)
			if err != nil {
				t.Error(err)
			}
			parked.Add(int64(n))
		})
	}
	wg.Wait()
	require.EqualValues(t, letters, parked.Load())
	r.waits(letters)
	for _, item := range r.list() {
		require.Equal(t, "1 true", fmt.Sprint(item.Generation, " ", item.Retrying))
	}
	var got []string
	for len(got) < letters {
		got = append(got, retrytest.FetchAndAck(t, r.queue).Event.ID)
	}
	require.ElementsMatch(t, ids, got)
	require.Empty(t, r.list())
}

func lists(t *testing.T, r *rig) {
	t.Helper()
	start := time.Now().UTC().Truncate(time.Second)
	for i := range 5 {
		d := retrytest.Delivery(strconv.Itoa(i), []string{"even", "odd"}[i%2], "a")
		d.Attempts = []event.Attempt{{At: start.Add(time.Duration(i) * time.Minute), Error: strconv.Itoa(i), Class: "c" + strconv.Itoa(i/3)}}
		r.put(d)
	}
	for name, tc := range map[string]struct {
		filter deadletter.Filter
		total  int
		errors string
	}{
		"all, latest first": {deadletter.Filter{}, 5, "[4 3 2 1 0]"},
		"one observer":      {deadletter.Filter{Observer: "odd"}, 2, "[3 1]"},
		"one class":         {deadletter.Filter{Class: "c1"}, 2, "[4 3]"},
		"after a time":      {deadletter.Filter{After: start.Add(2 * time.Minute)}, 2, "[4 3]"},
		"before a time":     {deadletter.Filter{Before: start.Add(2 * time.Minute)}, 2, "[1 0]"},
		"a page":            {deadletter.Filter{Limit: 2, Offset: 1}, 5, "[3 2]"},
		"the last page":     {deadletter.Filter{Limit: 2, Offset: 4}, 5, "[0]"},
		"beyond the last":   {deadletter.Filter{Limit: 2, Offset: 9}, 5, "[]"},
		"none":              {deadletter.Filter{Observer: "nobody"}, 0, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			items, total, err := r.store.List(t.Context(), tc.filter)
			require.NoError(t, err)
			texts := []string{}
			for _, item := range items {
				texts = append(texts, item.Error)
				require.Nil(t, item.Event)
				require.Nil(t, item.History)
			}
			require.Equal(t, tc.errors, fmt.Sprint(texts))
			require.Equal(t, tc.total, total)
		})
	}
}

func counts(t *testing.T, r *rig) {
	t.Helper()
	start := time.Now().UTC().Truncate(time.Second)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	for i, key := range [][2]string{{"a", "x"}, {"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", deadletter.ClassUnreadable}} {
		d := retrytest.Delivery("7", key[0], "n")
		d.Attempts[0].At, d.Attempts[0].Class = at(i), key[1]
		r.put(d)
	}
	_, err := r.store.RetryAll(t.Context(), deadletter.Filter{Limit: 1}, nil)
	require.NoError(t, err)
	got, err := r.store.Stats(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.Equal(t, []deadletter.Group{
		{Observer: "a", Action: "n", ErrorClass: "x", Count: 2, Oldest: at(0), Newest: at(1), Retrying: 1},
		{Observer: "a", Action: "n", ErrorClass: "y", Count: 1, Oldest: at(2), Newest: at(2)},
		{Observer: "b", Action: "n", ErrorClass: deadletter.ClassUnreadable, Count: 1, Oldest: at(4), Newest: at(4), NotReplayable: 1},
		{Observer: "b", Action: "n", ErrorClass: "x", Count: 1, Oldest: at(3), Newest: at(3)},
	}, got)
	got, err = r.store.Stats(t.Context(), deadletter.Filter{Observer: "b", Limit: 1})
	require.NoError(t, err)
	require.Len(t, got, 2, "it knows no limit")
}

func selects(t *testing.T, broker Broker) {
	t.Helper()
	start := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	for name, tc := range map[string]struct {
		filter deadletter.Filter
		want   []string // entity ids
	}{
		"all that can be and are not yet":  {deadletter.Filter{}, []string{"0", "1", "2", "3"}},
		"the oldest":                       {deadletter.Filter{Limit: 3}, []string{"0", "1", "2"}},
		"of an observer":                   {deadletter.Filter{Observer: "odd"}, []string{"1", "3"}},
		"the oldest of an observer":        {deadletter.Filter{Observer: "odd", Limit: 1}, []string{"1"}},
		"of a class":                       {deadletter.Filter{Class: "late"}, []string{"2", "3"}},
		"that failed last after a time":    {deadletter.Filter{After: start.Add(time.Minute)}, []string{"2", "3"}},
		"that failed last before a time":   {deadletter.Filter{Before: start.Add(time.Minute)}, []string{"0"}},
		"none":                             {deadletter.Filter{Observer: "nobody"}, nil},
		"none of those that hold no event": {deadletter.Filter{Class: deadletter.ClassUnreadable}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, broker)
			for _, i := range []int{3, 0, 5, 1, 4, 2} {
				d := retrytest.Delivery(strconv.Itoa(i), []string{"even", "odd"}[i%2], "a")
				d.Attempts[0].At = start.Add(time.Duration(i) * time.Minute)
				d.Attempts[0].Class = []string{"early", "early", "late", "late", deadletter.ClassUnreadable, "being"}[i]
				r.put(d)
			}
			_, err := r.store.RetryAll(t.Context(), deadletter.Filter{Class: "being"}, nil)
			require.NoError(t, err)
			require.Equal(t, "5", retrytest.FetchAndAck(t, r.queue).Event.EntityID)
			r.waits(0)

			before := r.list()
			plan, err := r.store.PlanRetry(t.Context(), tc.filter)
			require.NoError(t, err)
			planned := 0
			for _, g := range plan {
				planned += g.Count
			}
			require.Equal(t, len(tc.want), planned)
			_, err = r.store.PlanRemove(t.Context(), tc.filter)
			require.NoError(t, err)
			require.Equal(t, before, r.list(), "a plan changes nothing")
			r.waits(0)

			parked, err := r.store.RetryAll(t.Context(), tc.filter, nil)
			require.NoError(t, err)
			require.Equal(t, len(tc.want), parked)
			for _, want := range tc.want {
				require.Equal(t, want, retrytest.FetchAndAck(t, r.queue).Event.EntityID)
			}
			r.waits(0)
		})
	}
}
