package dispatch_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// several observers, of an entity and with an endpoint each, share 16 slots.
func several(q *queue, names ...string) dispatch.Config {
	cfg := dispatch.Config{
		MaxConcurrency: 16,
		Endpoint:       func(observer, _ string) (string, func() bool) { return observer, nil },
		Spill:          q.spill,
	}
	for _, name := range names {
		cfg.Observers = append(cfg.Observers, dispatch.Observer{Name: name, Entity: name, Actions: []string{"x"}})
	}
	return cfg
}

// since tells of the time of a test's bubble.
func since() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

// Others have all slots but one for 50 ms. Then the endpoint a has one request that hangs, others that wait for their turn,
// and fifteen slots are free.
func TestWhatWaitsStartsWhenOthersFreeTheirSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, now := &queue{}, since()
		started := map[string]time.Duration{}
		others := []string{"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"}
		r := start(t, several(q, append(others, "a")...), func(r *rig, topic string, d *event.Delivery) error {
			r.mu.Lock()
			started[d.Event.ID] = now()
			r.mu.Unlock()
			switch {
			case topic != "a/x":
				advance(50 * time.Millisecond)
			case d.Event.ID == "a0":
				advance(30 * time.Second)
			default:
				advance(time.Millisecond)
			}
			return nil
		})
		for i := range 24 {
			r.up <- change(others[i%8], fmt.Sprint("b", i), strconv.Itoa(i))
		}
		for i := range 10 {
			r.up <- change("a", fmt.Sprint("a", i), strconv.Itoa(i))
		}
		freed := now() + 50*time.Millisecond
		advance(time.Second)
		late := now()
		for i := range 10 {
			r.up <- change("a", fmt.Sprint("late", i), fmt.Sprint("late", i))
		}
		advance(time.Minute)
		r.stop()
		require.Len(t, started, 24+10+10)
		for id, at := range started {
			if strings.HasPrefix(id, "late") {
				require.LessOrEqual(t, at, late+time.Millisecond, id)
				continue
			}
			require.LessOrEqual(t, at, freed+time.Millisecond, id)
		}
		require.Empty(t, q.ids())
	})
}

func TestWhatComesLaterStartsAfterWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := several(&queue{}, "a", "b")
		cfg.MaxConcurrency = 2
		r := start(t, cfg, func(r *rig, _ string, d *event.Delivery) error {
			r.note("%s", d.Event.ID)
			if d.Event.ID == "hangs" {
				advance(time.Minute)
			}
			advance(50 * time.Millisecond)
			return nil
		})
		for _, m := range []*message.Message{change("a", "hangs", "0"), change("b", "b", "0"), change("a", "1", "1"), change("a", "2", "2")} {
			r.up <- m
			synctest.Wait()
		}
		require.Equal(t, []string{"hangs", "b"}, r.noted(), "two slots")
		advance(60 * time.Millisecond)
		r.up <- change("a", "3", "3")
		advance(time.Second)
		require.Equal(t, []string{"hangs", "b", "1", "2", "3"}, r.noted())
		advance(time.Minute)
		r.stop()
	})
}

func TestAnEndpointThatHangsDoesNotGetAllSlotsThatBecomeFreeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, freed, end := &queue{}, make(chan struct{}), make(chan struct{})
		running := map[string]int{}
		r := start(t, several(q, "a", "b"), func(r *rig, topic string, _ *event.Delivery) error {
			r.mu.Lock()
			running[topic]++
			r.mu.Unlock()
			if topic == "a/x" {
				<-end
			} else {
				<-freed
			}
			return nil
		})
		for i := range 11 {
			r.up <- change("b", fmt.Sprint("b", i), strconv.Itoa(i))
		}
		for i := range 30 {
			r.up <- change("a", fmt.Sprint("a", i), strconv.Itoa(i))
		}
		synctest.Wait()
		require.Equal(t, map[string]int{"a/x": 4, "b/x": 11}, running)
		close(freed)
		synctest.Wait()
		require.Equal(t, 11, running["a/x"], "two thirds")
		close(end)
		synctest.Wait()
		require.Equal(t, 30, running["a/x"])
		r.stop()
		require.Empty(t, q.ids())
	})
}

func TestEndpointsWhereDeliveriesWaitTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := several(&queue{}, "a", "b")
		cfg.MaxConcurrency = 3
		const changes = 30
		started, apart := map[string]int{}, 0
		r := start(t, cfg, func(r *rig, topic string, _ *event.Delivery) error {
			r.mu.Lock()
			started[topic]++
			apart = max(apart, started["a/x"]-started["b/x"], started["b/x"]-started["a/x"])
			r.mu.Unlock()
			advance(10 * time.Millisecond)
			return nil
		})
		for i := range changes {
			r.up <- change([]string{"a", "b"}[i%2], strconv.Itoa(i), strconv.Itoa(i))
		}
		advance(time.Minute)
		r.stop()
		require.Equal(t, map[string]int{"a/x": changes / 2, "b/x": changes / 2}, started)
		require.LessOrEqual(t, apart, 3, "the slots")
	})
}

// The other endpoint has all slots for three seconds. What waits for a slot says nothing about where it is to go.
func TestTheWaitForASlotDoesNotMakeAnEndpointSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{}
		cfg := several(q, "a", "slow")
		cfg.MaxConcurrency = 2
		cfg.Observers[0].Actions = []string{"x", "y"} // two deliveries an event do not hold the source back
		var done atomic.Int64
		r := start(t, cfg, func(r *rig, topic string, _ *event.Delivery) error {
			if topic == "slow/x" {
				advance(3 * time.Second)
				return nil
			}
			advance(time.Millisecond)
			done.Add(1)
			return nil
		})
		for i := range 2 {
			r.up <- change("slow", strconv.Itoa(i), strconv.Itoa(i))
		}
		for i := range 50 {
			r.up <- change("a", strconv.Itoa(i), strconv.Itoa(i))
		}
		advance(2 * time.Second)
		require.Zero(t, done.Load(), "no slot is free")
		require.Empty(t, q.ids())
		advance(2 * time.Second)
		r.stop()
		require.EqualValues(t, 100, done.Load())
		require.Empty(t, q.ids())
	})
}
