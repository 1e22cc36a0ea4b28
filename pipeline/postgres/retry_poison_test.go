package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// dispatched is a dispatcher of the action shipped/notify behind a retry queue.
type dispatched struct {
	events  chan *message.Message
	ran     chan string // event ids
	dead    atomic.Int64
	spilled atomic.Int64
}

func dispatchFrom(t *testing.T, q *RetryQueue, store *DeadLetters) *dispatched {
	t.Helper()
	r := &dispatched{events: make(chan *message.Message), ran: make(chan string, 10)}
	lanes, err := q.Lanes(t.Context())
	require.NoError(t, err)
	d, err := dispatch.New(dispatch.Config{
		Observers: []dispatch.Observer{{Name: "shipped", Entity: "*", Actions: []string{"notify"}}}, Lanes: lanes,
		DeadLetter: func(ctx context.Context, d *event.Delivery) error { r.dead.Add(1); return store.Put(ctx, d) },
		Spill: func(ctx context.Context, list []dispatch.Spilled) error {
			r.spilled.Add(int64(len(list)))
			return q.Spill(ctx, list)
		},
	})
	require.NoError(t, err)
	parked, err := window.New(window.Config{Open: func(context.Context, string) (window.Driver, error) { return q, nil }, Direct: true})
	require.NoError(t, err)
	retries, err := parked.Subscribe(t.Context(), "retries")
	require.NoError(t, err)
	topic := dispatch.Topic("shipped", "notify")
	msgs, err := d.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	handle := d.Settle(func(msg *message.Message) ([]*message.Message, error) {
		r.ran <- event.FromContext(msg.Context()).Event.ID
		return nil, nil
	})
	done := make(chan struct{})
	go func() { defer close(done); d.Run(context.WithoutCancel(t.Context()), retries, r.events) }()
	go func() {
		for msg := range msgs {
			_, _ = handle(msg) // it has no error
		}
	}()
	t.Cleanup(func() {
		close(r.events)
		require.NoError(t, parked.Close())
		<-done
	})
	return r
}

// TestAPoisonousParkedDeliveryLeavesItsLane parks the only delivery of a lane, which then is found to be unfit: once it is a
// dead letter, what comes later in the lane runs at once.
func TestAPoisonousParkedDeliveryLeavesItsLane(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, class string }{
		"an event that is none":    {`event = '[1]'`, "unreadable"},
		"attempts that are none":   {`attempts = '"x"'`, "unreadable"},
		"it ended three processes": {`claimed_by = 0, starts = 2`, "poison"},
		"both":                     {`event = '[1]', claimed_by = 0, starts = 2`, "poison"},
		"an event without a time":  {`event = event || '{"timestamp": 7}'`, "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			q := newQueue(t, pool, 1)
			bad := delivery("7", "shipped", "notify")
			bad.Lane, bad.Generation = bad.Event.Key(), 2
			require.NoError(t, q.Park(t.Context(), bad, time.Now()))
			execSQL(t, pool, `update core.tb_observer_retry set `+test.spoil)
			r := dispatchFrom(t, q, deadLetters(pool))
			testenv.Eventually(t, 10*time.Second, func() error {
				if queryOne[int](t, pool, `select count(*) from core.tb_observer_dead_letter`) == 0 {
					return errors.New("there is no dead letter")
				}
				return nil
			})
			letter := onlyDeadLetter(t, deadLetters(pool))
			require.Equal(t, test.class, letter.ErrorClass)
			require.Equal(t, []string{bad.Event.ID, "shipped", "notify", "Order"}, []string{letter.EventID, letter.Observer, letter.Action, letter.Entity})
			require.Equal(t, 2, queryOne[int](t, pool, `select generation from core.tb_observer_dead_letter`))
			require.Zero(t, parkedRows(t, pool))
			require.EqualValues(t, 1, r.dead.Load(), "through the store that counts")

			next := delivery("7", "shipped", "notify").Event
			r.events <- message.NewMessageWithContext(event.WithEvent(context.Background(), next), next.ID, nil)
			select {
			case id := <-r.ran:
				require.Equal(t, next.ID, id)
			case <-time.After(10 * time.Second):
				t.Fatal("the next of the lane did not run")
			}
			require.Zero(t, r.spilled.Load(), "nothing of its lane is parked")
		})
	}
}
