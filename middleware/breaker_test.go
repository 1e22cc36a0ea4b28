package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

func TestAnEndpointThatFailsTenTimesInARowIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []bool
		endpoint := middleware.NewEndpoint("http://down", func(open bool) { changes = append(changes, open) })
		calls, outcome := 0, errors.New("503")
		handler := middleware.Breaker(endpoint)(func(*message.Message) ([]*message.Message, error) { calls++; return nil, outcome })
		run := func() error {
			_, err := handler(message.NewMessage("e", nil))
			return err
		}
		for range 10 {
			require.False(t, endpoint.Down())
			require.Equal(t, outcome, run())
		}
		require.True(t, endpoint.Down())
		err := run()
		delay, deferred := event.Deferred(err)
		require.True(t, deferred, "%v", err)
		require.Equal(t, 2*time.Second, delay)
		require.Equal(t, 10, calls, "nothing was sent")

		advance(2001 * time.Millisecond)
		require.Equal(t, outcome, run(), "one is let through")
		require.True(t, endpoint.Down())
		advance(2001 * time.Millisecond)
		outcome = nil
		require.NoError(t, run())
		require.NoError(t, run())
		require.Equal(t, []bool{true, true, false}, changes)
	})
}

func TestAnAnswerIsNoFailureOfTheEndpoint(t *testing.T) {
	for name, err := range map[string]error{
		"a permanent error":            event.Permanent(errors.New("404")),
		"without the lease":            event.ErrBusy,
		"what shutdown has cancelled":  context.Canceled,
		"success between two failures": nil,
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := middleware.NewEndpoint("x", nil)
			calls := 0
			handler := middleware.Breaker(endpoint)(func(*message.Message) ([]*message.Message, error) {
				if calls++; err == nil && calls%5 > 0 {
					return nil, errors.New("503")
				}
				return nil, err
			})
			for range 30 {
				_, _ = handler(message.NewMessage("e", nil))
			}
			require.Equal(t, 30, calls)
			require.False(t, endpoint.Down())
		})
	}
}

func TestWhatIsDeferredUsesNoAttemptAndKeepsItsLane(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]bool{"overtake": false, "hold": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig()
			run := func(err error) *event.Delivery {
				handler := middleware.Retry(r.chain.Retry, hold, &r.stores, r.chain.Log)(middleware.Attempts(fails(err)))
				d := &event.Delivery{Event: &event.Event{ID: "e"}, Observer: "o", Action: "a", Lane: "l"}
				_, err = handler(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
				require.ErrorIs(t, err, event.ErrParked)
				return r.stores.parked[len(r.stores.parked)-1]
			}
			d := run(event.Defer(errors.New("down"), time.Minute))
			require.Empty(t, d.Attempts)
			require.Equal(t, "l", d.Lane)
			require.InDelta(t, time.Minute, time.Until(r.stores.due[0]), float64(time.Second))
			d = run(errors.New("503"))
			require.Len(t, d.Attempts, 1)
			require.Equal(t, map[bool]string{true: "l"}[hold], d.Lane, "a failed one may be overtaken, or not")
		})
	}
}

// advance lets the time of a synctest bubble pass.
func advance(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock is the bubble's
}
