package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// rig runs a dispatcher whose handlers are functions, with a test's own upstream.
type rig struct {
	*dispatch.Dispatcher
	up     chan *message.Message
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	log  []string
	dead []*event.Delivery
}

func start(t *testing.T, cfg dispatch.Config, handle func(r *rig, topic string, d *event.Delivery) error) *rig {
	t.Helper()
	r := &rig{up: make(chan *message.Message), done: make(chan struct{})}
	cfg.DeadLetter = func(_ context.Context, d *event.Delivery) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dead = append(r.dead, d)
		return nil
	}
	d, err := dispatch.New(cfg)
	require.NoError(t, err)
	r.Dispatcher = d
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	for _, o := range cfg.Observers {
		for _, a := range o.Actions {
			topic := dispatch.Topic(o.Name, a)
			msgs, err := d.Subscribe(ctx, topic)
			require.NoError(t, err)
			go func() {
				for msg := range msgs {
					go func() {
						_, _ = d.Settle(func(*message.Message) ([]*message.Message, error) {
							return nil, handle(r, topic, event.FromContext(msg.Context()))
						})(msg)
					}()
				}
			}()
		}
	}
	go func() {
		defer close(r.done)
		d.Run(ctx, r.up)
	}()
	return r
}

func (r *rig) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *rig) noted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *rig) stop() {
	r.cancel()
	close(r.up)
	<-r.done
}

// advance lets the time of a synctest bubble pass.
func advance(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock is the bubble's
}

func msgOf(e *event.Event) *message.Message {
	return message.NewMessageWithContext(event.WithEvent(context.Background(), e), e.ID, e.JSON())
}

func order(id, key string) *event.Event {
	return &event.Event{ID: id, Type: event.Update, Entity: "Order", EntityID: key, Data: []byte(`{}`), Timestamp: time.Unix(0, 0)}
}

func notify(actions ...string) dispatch.Observer {
	return dispatch.Observer{Name: "o", Entity: "Order", Type: event.Update, Actions: actions}
}

func acked(m *message.Message) bool {
	select {
	case <-m.Acked():
		return true
	default:
		return false
	}
}

func nacked(m *message.Message) bool {
	select {
	case <-m.Nacked():
		return true
	default:
		return false
	}
}

func TestDeliveriesOfOneEntityRunOneAfterTheOtherAndOthersBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a")}}, func(r *rig, _ string, d *event.Delivery) error {
			r.note("start %s", d.Event.ID)
			if d.Event.EntityID == "slow" {
				advance(time.Second)
			}
			r.note("end %s", d.Event.ID)
			return nil
		})
		for _, e := range []*event.Event{order("1", "slow"), order("2", "slow"), order("3", "quick")} {
			r.up <- msgOf(e)
			synctest.Wait()
		}
		advance(3 * time.Second)
		r.stop()
		require.Equal(t, []string{"start 1", "start 3", "end 3", "end 1", "start 2", "end 2"}, r.log)
	})
}

func TestAnEventIsAckedWhenAllItsDeliveriesHaveSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("quick", "slow")}}, func(_ *rig, topic string, _ *event.Delivery) error {
			if topic == "o/slow" {
				advance(time.Second)
			}
			return nil
		})
		msg := msgOf(order("1", "k"))
		r.up <- msg
		advance(999 * time.Millisecond)
		require.False(t, acked(msg))
		advance(2 * time.Millisecond)
		require.True(t, acked(msg))
		r.stop()
	})
}

func TestAnEventThatNobodyWantsIsAckedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := notify("a")
		never.Match = func(*event.Event) (bool, error) { return false, nil }
		broken := dispatch.Observer{Name: "broken", Entity: "*", Actions: []string{"a"}, Match: func(*event.Event) (bool, error) { return true, errors.New("type error") }}
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{never, broken}}, func(*rig, string, *event.Delivery) error {
			t.Error("an action ran")
			return nil
		})
		msg := msgOf(order("1", "k"))
		r.up <- msg
		synctest.Wait()
		require.True(t, acked(msg))
		r.stop()
	})
}

func TestASequentialObserverRunsItsActionsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := notify("a", "b", "c")
		o.Sequential = true
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{o}}, func(r *rig, topic string, d *event.Delivery) error {
			advance(time.Second)
			r.note("%s %s", topic, d.Event.ID)
			return nil
		})
		msg := msgOf(order("1", "k"))
		r.up <- msg
		advance(10 * time.Second)
		r.stop()
		require.Equal(t, []string{"o/a 1", "o/b 1", "o/c 1"}, r.log)
		require.True(t, acked(msg))
	})
}

func TestNoMoreEventsAreInWorkThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most := 0, 0
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a", "b", "c")}, MaxConcurrency: 2, MaxConcurrentActions: 2}, func(r *rig, _ string, _ *event.Delivery) error {
			r.mu.Lock()
			running++
			most = max(most, running)
			r.mu.Unlock()
			advance(time.Second)
			r.mu.Lock()
			running--
			r.mu.Unlock()
			return nil
		})
		for i := range 10 {
			r.up <- msgOf(order(strconv.Itoa(i), strconv.Itoa(i)))
		}
		advance(time.Minute)
		r.stop()
		require.Equal(t, 4, most, "two events with two actions each")
	})
}

func TestADeliveryThatDoesNotSettleRunsAgainBeforeTheNextOfItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a")}}, func(r *rig, _ string, d *event.Delivery) error {
			r.note("%s", d.Event.ID)
			if tries++; tries < 3 {
				return errors.New("store away")
			}
			return nil
		})
		r.up <- msgOf(order("1", "k"))
		r.up <- msgOf(order("2", "k"))
		advance(time.Minute)
		r.stop()
		require.Equal(t, []string{"1", "1", "1", "2"}, r.log)
	})
}

func TestDrainingFinishesWhatHasBegunAndLeavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("quick", "slow")}, MaxConcurrency: 1}, func(r *rig, topic string, d *event.Delivery) error {
			if topic == "o/slow" {
				advance(time.Second)
			}
			r.note("%s %s", topic, d.Event.ID)
			return nil
		})
		begun, waiting, behind := msgOf(order("1", "k")), msgOf(order("2", "other")), msgOf(order("3", "k"))
		for _, m := range []*message.Message{begun, waiting, behind} {
			r.up <- m
			synctest.Wait()
		}
		r.stop()
		require.True(t, acked(begun))
		require.True(t, nacked(waiting), "it had not begun")
		require.ElementsMatch(t, []string{"o/quick 1", "o/slow 1"}, r.log[:2])
		if nacked(behind) {
			require.Len(t, r.log, 2)
		}
	})
}

// tracker remembers what it was told.
type tracker struct {
	mu   sync.Mutex // guards what follows
	n    int
	done []string
}

func (s *tracker) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

func (s *tracker) Done(part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, part)
}

func (s *tracker) WasDone(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.done, part)
}

func (s *tracker) starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func TestTheDriverLearnsWhenHandlingBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a", "b")}, MaxConcurrency: 1}, func(*rig, string, *event.Delivery) error {
			<-free
			return nil
		})
		var first, second, unwanted tracker
		for m, s := range map[*message.Message]*tracker{msgOf(order("1", "k")): &first, msgOf(&event.Event{Type: event.Update, Entity: "Other"}): &unwanted} {
			m.SetContext(window.WithTracker(m.Context(), s))
			r.up <- m
		}
		synctest.Wait()
		m := msgOf(order("2", "other"))
		m.SetContext(window.WithTracker(m.Context(), &second))
		r.up <- m
		synctest.Wait()
		require.Equal(t, []int{1, 0, 0}, []int{first.starts(), second.starts(), unwanted.starts()}, "the second waits for a slot")
		close(free)
		synctest.Wait()
		require.Equal(t, []int{1, 1, 0}, []int{first.starts(), second.starts(), unwanted.starts()})
		r.stop()
	})
}

// TestWhatHasSettledOfAnEventRunsNoMore gives an event to the next process, of which one action had succeeded.
func TestWhatHasSettledOfAnEventRunsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut, end := context.WithCancel(t.Context())
		handle := func(r *rig, topic string, d *event.Delivery) error {
			if topic == "o/slow" && cut.Err() == nil {
				<-cut.Done()
				return cut.Err()
			}
			r.note("%s %s", topic, d.Event.ID)
			return nil
		}
		var remembered tracker
		give := func(r *rig, ctx context.Context) *message.Message {
			m := msgOf(order("1", "k"))
			m.SetContext(event.WithEvent(window.WithTracker(ctx, &remembered), event.OfContext(m.Context())))
			r.up <- m
			synctest.Wait()
			return m
		}
		first := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("quick", "slow")}}, handle)
		m := give(first, cut)
		end()
		first.stop()
		require.True(t, nacked(m))
		require.Equal(t, []string{"o/quick 1"}, first.log)
		require.Equal(t, []string{"o/quick"}, remembered.done)
		second := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("quick", "slow")}}, handle)
		m = give(second, t.Context())
		second.stop()
		require.True(t, acked(m))
		require.Equal(t, []string{"o/slow 1"}, second.log)
	})
}

func TestAReplayOfAWholeEventGoesToWhoWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a", "b")}}, func(r *rig, topic string, d *event.Delivery) error {
			r.note("%s %d", topic, d.Generation)
			return nil
		})
		whole := &event.Delivery{Event: order("1", "k"), Generation: 2, Attempts: make([]event.Attempt, 1)}
		m := message.NewMessageWithContext(event.NewContext(context.Background(), whole), "1", nil)
		r.up <- m
		synctest.Wait()
		r.stop()
		require.ElementsMatch(t, []string{"o/a 2", "o/b 2"}, r.log)
		require.True(t, acked(m))
		require.Empty(t, r.dead)
	})
}

func TestAParkedDeliveryGoesStraightIntoItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := notify("a", "b")
		o.Match = func(*event.Event) (bool, error) { return false, nil }
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{o}}, func(r *rig, topic string, d *event.Delivery) error {
			r.note("%s %d", topic, len(d.Attempts))
			return nil
		})
		parked := &event.Delivery{Event: order("1", "k"), Observer: "o", Action: "b", Attempts: make([]event.Attempt, 2)}
		gone := &event.Delivery{Event: order("2", "k"), Observer: "gone", Action: "b"}
		for _, d := range []*event.Delivery{parked, gone} {
			r.up <- message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, nil)
		}
		advance(time.Second)
		r.stop()
		require.Equal(t, []string{"o/b 2"}, r.log)
		require.Len(t, r.dead, 1)
		require.Equal(t, "undeclared", r.dead[0].Attempts[0].Class)
	})
}

func TestWhatCannotBeReadBecomesADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a")}}, func(*rig, string, *event.Delivery) error { return nil })
		poison := msgOf(order("1", "k"))
		poison.Metadata.Set(window.MetadataPoison, "it ended the process three times")
		poison.Metadata.Set(window.MetadataPoisonClass, "poison")
		garbage := message.NewMessage("2", []byte("x"))
		r.up <- poison
		r.up <- garbage
		synctest.Wait()
		require.True(t, acked(poison))
		require.True(t, acked(garbage))
		r.stop()
		require.Equal(t, "it ended the process three times", r.dead[0].Attempts[0].Error)
		require.Equal(t, "poison", r.dead[0].Attempts[0].Class)
		require.Equal(t, "unreadable", r.dead[1].Attempts[0].Class)
		require.Contains(t, r.dead[1].Attempts[0].Error, "decode event")
		require.JSONEq(t, `"x"`, string(r.dead[1].Event.Data))
	})
}

func TestNothingStartsWhileTheLeaseIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := time.Now().Add(5 * time.Second)
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a")}, Held: func() bool { return time.Now().After(opened) }}, func(r *rig, _ string, _ *event.Delivery) error {
			r.note("%v", time.Now().After(opened))
			return nil
		})
		r.up <- msgOf(order("1", "k"))
		advance(time.Minute)
		r.stop()
		require.Equal(t, []string{"true"}, r.log)
	})
}

func TestALeaseThatEndsDuringTheWaitForASlotHoldsTheDeliveryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		held := func() bool { at := time.Since(begun); return at < time.Second || at > 10*time.Second }
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{notify("a")}, MaxConcurrency: 1, Held: held}, func(r *rig, _ string, d *event.Delivery) error {
			r.note("%s %v", d.Event.ID, held())
			advance(2 * time.Second)
			return nil
		})
		r.up <- msgOf(order("1", "k"))
		synctest.Wait()
		r.up <- msgOf(order("2", "other"))
		advance(time.Minute)
		r.stop()
		require.Equal(t, []string{"1 true", "2 true"}, r.log)
	})
}

func TestAnEventThatHasBegunIsLeftToTheSuccessorWhenTheLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		o := notify("a", "b")
		o.Sequential = true
		r := start(t, dispatch.Config{Observers: []dispatch.Observer{o}, Held: func() bool { return time.Since(begun) < time.Second }}, func(r *rig, topic string, _ *event.Delivery) error {
			advance(2 * time.Second)
			r.note("%s", topic)
			return nil
		})
		msg := msgOf(order("1", "k"))
		r.up <- msg
		synctest.Wait()
		r.stop()
		require.True(t, nacked(msg))
		require.Equal(t, []string{"o/a"}, r.log)
		require.Less(t, time.Since(begun), 3*time.Second)
	})
}
