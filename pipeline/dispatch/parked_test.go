package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// TestNoLaneIsKeptOfWhatIsBuried resumes the only delivery of a lane, which cannot run.
func TestNoLaneIsKeptOfWhatIsBuried(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]string{"its action is not declared any more": "", "it is poison": "it ended the process three times"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buried := 0
			d, err := New(Config{
				Lanes:      []Lane{{Observer: "gone", Action: "a", Name: "Order/7", Parked: 1}},
				DeadLetter: func(context.Context, *event.Delivery) error { buried++; return nil },
			})
			require.NoError(t, err)
			parked := &event.Delivery{Event: &event.Event{ID: "1"}, Observer: "gone", Action: "a", Lane: "Order/7"}
			msg := message.NewMessageWithContext(event.NewContext(t.Context(), parked), "1", nil)
			if poison != "" {
				msg.Metadata.Set(window.MetadataPoison, poison)
			}
			d.dispatch(t.Context(), msg)
			require.Equal(t, 1, buried)
			require.Zero(t, d.parked.any.Load())
		})
	}
}

// follows reports whether what comes next in the lane of d would have to go to the retry queue.
func follows(d *Dispatcher, delivery *event.Delivery) bool {
	_, ok := d.parked.follow(delivery)
	return ok
}

func TestWhatOthersHaveParkedIsFollowedUntilOthersHaveRunIt(t *testing.T) {
	t.Parallel()
	d, err := New(Config{DeadLetter: func(context.Context, *event.Delivery) error { return nil }})
	require.NoError(t, err)
	lane := Lane{Observer: "o", Action: "a", Name: "Order/7", Parked: 2}
	delivery := &event.Delivery{Event: &event.Event{ID: "1"}, Observer: "o", Action: "a", Lane: "Order/7"}
	asked := 0
	queue := func(lanes ...Lane) func(context.Context) ([]Lane, error) {
		return func(context.Context) ([]Lane, error) { asked++; return lanes, nil }
	}
	require.False(t, follows(d, delivery))
	require.NoError(t, d.Forget(t.Context(), queue()))
	require.Zero(t, asked, "nothing is known to be parked")

	d.Learn([]Lane{lane})
	require.True(t, follows(d, delivery))
	require.NoError(t, d.Forget(t.Context(), queue()))
	require.True(t, follows(d, delivery), "what follows is on its way into the queue")
	d.parked.stored(delivery, true)
	d.parked.stored(delivery, true)
	require.NoError(t, d.Forget(t.Context(), queue(lane)))
	require.True(t, follows(d, delivery), "it is in the queue")
	d.parked.stored(delivery, true)
	require.NoError(t, d.Forget(t.Context(), func(context.Context) ([]Lane, error) {
		d.Parked(delivery, time.Now()) // while the queue is asked
		return nil, nil
	}))
	require.True(t, follows(d, delivery), "something was parked meanwhile")
	d.parked.stored(delivery, true)
	require.NoError(t, d.Forget(t.Context(), queue()))
	require.False(t, follows(d, delivery), "others have run it all")
	require.Zero(t, d.parked.any.Load())
}

// TestWhatAnotherProcessIsToHaveDoesNotBegin revokes an event before, and another after it began.
func TestWhatAnotherProcessIsToHaveDoesNotBegin(t *testing.T) {
	t.Parallel()
	d, err := New(Config{DeadLetter: func(context.Context, *event.Delivery) error { return nil }})
	require.NoError(t, err)
	var revoked atomic.Bool
	work := func() *work {
		return newWork(message.NewMessageWithContext(window.WithRevoked(t.Context(), &revoked), "1", nil), &event.Event{ID: "1"})
	}
	begun, late := work(), work()
	require.True(t, d.begin(t.Context(), begun))
	d.end(begun)
	revoked.Store(true)
	require.True(t, d.begin(t.Context(), begun), "what has begun is finished")
	require.False(t, d.begin(t.Context(), late))
	require.Len(t, d.slots, 1, "only one runs")
}
