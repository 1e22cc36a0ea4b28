package middleware_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/middleware"
)

func TestAReplayThatFailsAgainIsKeptWhereFailuresAreOnlyLogged(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		generation, kept int
		outcome          error
	}{
		"a first delivery": {0, 0, event.ErrDropped},
		"a replay":         {1, 1, event.ErrDeadLettered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s stores
			handler := middleware.DeadLetter(&s, middleware.FailureLog, slog.New(slog.DiscardHandler))(fails(event.Permanent(errors.New("boom"))))
			d := &event.Delivery{Event: &event.Event{ID: "e"}, Observer: "o", Action: "a", Generation: tc.generation}
			_, err := handler(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
			require.ErrorIs(t, err, tc.outcome)
			require.Len(t, s.dead, tc.kept)
		})
	}
}

func TestAnAlertIsCountedFromZero(t *testing.T) {
	t.Parallel()
	for on, series := range map[middleware.OnFailure]int{middleware.FailureAlert: 1, middleware.FailureDLQ: 0, middleware.FailureLog: 0} {
		m := metrics.New(prometheus.NewRegistry())
		middleware.Metrics(m, "o", "a", "test", on)
		require.Equal(t, series, testutil.CollectAndCount(m.Alerts), on)
	}
}

func TestAReplayHasAllItsAttemptsAnew(t *testing.T) {
	t.Parallel()
	r := newRig()
	run := func(d *event.Delivery) {
		handler := middleware.Retry(r.chain.Retry, false, &r.stores, r.chain.Log)(middleware.Attempts(fails(errors.New("boom"))))
		handler = middleware.DeadLetter(&r.stores, middleware.FailureDLQ, r.chain.Log)(handler)
		_, err := handler(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
		require.True(t, event.Settled(err), "%v", err)
	}
	d := &event.Delivery{Event: &event.Event{ID: "e"}, Observer: "o", Action: "a", Generation: 1, Attempts: make([]event.Attempt, 5), Prior: 5}
	for n := 1; n <= 3; n++ { // max_attempts
		run(d)
		if n < 3 {
			require.Len(t, r.stores.parked, n)
			d = r.stores.parked[n-1]
		}
	}
	require.Len(t, r.stores.dead, 1)
	require.Len(t, r.stores.dead[0].Attempts, 8, "with the history")
}

func TestWhatCanNeverBeParkedBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	var dead stores
	queue := &stores{err: event.Permanent(errors.New("jsonb cannot hold it"))}
	r := newRig()
	handler := middleware.Retry(r.chain.Retry, false, queue, r.chain.Log)(middleware.Attempts(fails(errors.New("boom"))))
	handler = middleware.DeadLetter(&dead, middleware.FailureDLQ, r.chain.Log)(handler)
	d := &event.Delivery{Event: &event.Event{ID: "e"}, Observer: "o", Action: "a"}
	_, err := handler(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
	require.ErrorIs(t, err, event.ErrDeadLettered)
	require.Len(t, dead.dead, 1)
}
