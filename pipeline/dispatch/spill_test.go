package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// queue is a retry queue that keeps what is spilled; err makes it fail.
type queue struct {
	mu   sync.Mutex
	list []dispatch.Spilled
	err  error
}

func (q *queue) spill(_ context.Context, list []dispatch.Spilled) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.list = append(q.list, list...)
	}
	return q.err
}

func (q *queue) ids() (ids []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.list {
		ids = append(ids, s.Delivery.Event.ID)
	}
	return ids
}

// two observers of two entities, whose actions reach an endpoint each.
func two(q *queue) dispatch.Config {
	return dispatch.Config{
		MaxConcurrency: 12,
		Observers: []dispatch.Observer{
			{Name: "slow", Entity: "Slow", Actions: []string{"a"}},
			{Name: "quick", Entity: "Quick", Actions: []string{"a"}},
		},
		Endpoint: func(observer, _ string) (string, func() bool) { return observer, nil },
		Spill:    q.spill,
	}
}

func change(entity, id, key string) *message.Message {
	return msgOf(&event.Event{ID: id, Type: event.Update, Entity: entity, EntityID: key, Data: []byte(`{}`), Timestamp: time.Unix(0, 0)})
}

func TestAnEndpointThatHangsLeavesSlotsAndIsSpilledInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		release := make(chan struct{})
		running, most := 0, 0
		r := start(t, two(q), func(r *rig, topic string, d *event.Delivery) error {
			if topic == "quick/a" {
				r.note("quick %s", d.Event.ID)
				return nil
			}
			r.mu.Lock()
			running++
			most = max(most, running)
			r.mu.Unlock()
			<-release
			return nil
		})
		const changes = 200
		var spilled []string
		for i := range changes {
			r.up <- change("Slow", strconv.Itoa(i), strconv.Itoa(i))
			r.up <- change("Quick", strconv.Itoa(i), "7")
		}
		synctest.Wait()
		require.Len(t, r.log, changes, "the other endpoint gets everything")
		require.Equal(t, 8, most, "at most twice as many as are free")
		for i := 8 + 64; i < changes; i++ {
			spilled = append(spilled, strconv.Itoa(i))
		}
		require.Equal(t, spilled, q.ids(), "what neither runs nor waits, in order")
		require.Equal(t, []string{"slow/a"}, r.Busy())
		close(release)
		synctest.Wait()
		require.Equal(t, 8+64, running, "those that waited run")
		require.Empty(t, r.Busy())
		r.stop()
	})
}

func TestOneEndpointAloneHasAllSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := two(&queue{})
		cfg.Observers = cfg.Observers[:1]
		running := 0
		release := make(chan struct{})
		r := start(t, cfg, func(r *rig, _ string, _ *event.Delivery) error {
			r.mu.Lock()
			running++
			r.mu.Unlock()
			<-release
			return nil
		})
		for i := range 12 {
			r.up <- change("Slow", strconv.Itoa(i), strconv.Itoa(i))
		}
		synctest.Wait()
		require.Equal(t, 12, running)
		close(release)
		r.stop()
	})
}

func TestWhatComesAfterAParkedOneOfItsLaneFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		due := time.Now().Add(time.Minute)
		r := start(t, two(q), func(r *rig, _ string, d *event.Delivery) error {
			r.note("%s", d.Event.ID)
			if d.Event.ID == "1" {
				advance(time.Second)
				r.Parked(d, due) // by the middleware
			}
			return nil
		})
		for _, id := range []string{"1", "2", "3"} {
			r.up <- change("Slow", id, "7")
		}
		r.up <- change("Slow", "other", "8")
		advance(2 * time.Second)
		r.up <- change("Slow", "4", "7")
		synctest.Wait()
		require.ElementsMatch(t, []string{"1", "other"}, r.log, "another lane goes on")
		require.Equal(t, []string{"2", "3", "4"}, q.ids())
		for _, s := range q.list {
			require.Equal(t, due, s.NotBefore)
		}

		parked := []*event.Delivery{{Event: &event.Event{ID: "1", Type: event.Update, Entity: "Slow", EntityID: "7"}, Observer: "slow", Action: "a", Lane: "Slow\x1f7"}}
		for _, s := range q.list {
			parked = append(parked, s.Delivery)
		}
		for i, d := range parked {
			if i == 0 {
				d.Event.ID = "1 again"
			}
			r.up <- message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, nil)
		}
		synctest.Wait()
		r.up <- change("Slow", "5", "7")
		synctest.Wait()
		require.Equal(t, []string{"1 again", "2", "3", "4", "5"}, r.log[2:], "the lane is free once all have left the queue")
		require.Len(t, q.ids(), 3)
		r.stop()
	})
}

func TestALaneThatWasParkedBeforeTheStartIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		cfg := two(q)
		cfg.Lanes = []dispatch.Lane{{Observer: "slow", Action: "a", Name: "Slow\x1f7", Parked: 1}}
		r := start(t, cfg, func(r *rig, _ string, d *event.Delivery) error { r.note("%s", d.Event.ID); return nil })
		r.up <- change("Slow", "1", "7")
		r.up <- change("Slow", "2", "8")
		synctest.Wait()
		require.Equal(t, []string{"2"}, r.log)
		require.Equal(t, []string{"1"}, q.ids())
		r.stop()
	})
}

func TestWhatCannotBeSpilledIsTriedAgainAndAtTheEndLeftToTheNextProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{err: errors.New("away")}
		cfg := two(q)
		cfg.Lanes = []dispatch.Lane{{Observer: "slow", Action: "a", Name: "Slow\x1f7", Parked: 1}}
		r := start(t, cfg, func(*rig, string, *event.Delivery) error { return nil })
		first, second := change("Slow", "1", "7"), change("Slow", "2", "7")
		r.up <- first
		synctest.Wait()
		q.mu.Lock()
		q.err = nil
		q.mu.Unlock()
		advance(time.Second)
		require.Equal(t, []string{"1"}, q.ids())
		<-first.Acked()
		q.mu.Lock()
		q.err = errors.New("away")
		q.mu.Unlock()
		r.up <- second
		synctest.Wait()
		r.stop()
		<-second.Nacked()
		require.False(t, slices.Contains(q.ids(), "2"))
	})
}
