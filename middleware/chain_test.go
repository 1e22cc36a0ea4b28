package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/middleware"
)

// stores remember what was parked and dead-lettered; err makes both fail.
type stores struct {
	parked, dead []*event.Delivery
	due          []time.Time
	err          error
}

func (s *stores) Park(_ context.Context, d *event.Delivery, notBefore time.Time) error {
	if s.err == nil {
		s.parked, s.due = append(s.parked, d), append(s.due, notBefore)
	}
	return s.err
}

func (s *stores) Put(_ context.Context, d *event.Delivery) error {
	if s.err == nil {
		s.dead = append(s.dead, d)
	}
	return s.err
}

type rig struct {
	stores  stores
	metrics *metrics.Metrics
	log     bytes.Buffer
	chain   middleware.Chain
}

func newRig() *rig {
	r := &rig{metrics: metrics.New(prometheus.NewRegistry())}
	r.chain = middleware.Chain{
		Observer: "o", Action: "a", Kind: "test", OnFailure: middleware.FailureDLQ,
		Retry:   middleware.RetryConfig{MaxAttempts: 3, InitialDelayMS: 1000, MaxDelayMS: 10_000, BackoffStrategy: "exponential"},
		Timeout: time.Second, RetryQueue: &r.stores, DeadLetters: &r.stores, Metrics: r.metrics,
		Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	return r
}

// run sends one delivery with some failed attempts through the chain and returns what the router would see.
func (r *rig) run(ctx context.Context, earlier int, action message.HandlerFunc) error {
	list := r.chain.Middlewares()
	handler := action
	for _, m := range slices.Backward(list) {
		handler = m(handler)
	}
	d := &event.Delivery{Event: &event.Event{ID: "e", Entity: "Order"}, Observer: "o", Action: "a", Attempts: make([]event.Attempt, earlier)}
	_, err := handler(message.NewMessageWithContext(event.NewContext(ctx, d), "e", nil))
	return err
}

func fails(err error) message.HandlerFunc {
	return func(*message.Message) ([]*message.Message, error) { return nil, err }
}

func TestOutcomesOfADelivery(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		action    message.HandlerFunc
		earlier   int
		on        middleware.OnFailure
		storeErr  error
		nack      string
		parked    int
		dead      int
		result    string
		logs      string
		doNotLogs string
	}{
		"success is an ack":                        {action: fails(nil), result: "success"},
		"a failure is parked":                      {action: fails(boom), parked: 1, result: "parked", logs: "level=WARN msg=\"deliveries fail and are parked\" observer=o action=a error=boom"},
		"the last attempt becomes a dead letter":   {action: fails(boom), earlier: 2, dead: 1, result: "dead_letter"},
		"a permanent failure is not tried again":   {action: fails(event.Permanent(boom)), dead: 1, result: "dead_letter"},
		"a panic is a failed attempt":              {action: func(*message.Message) ([]*message.Message, error) { panic("oh") }, parked: 1, result: "parked", logs: "panic in a handler"},
		"what cannot be parked comes again":        {action: fails(boom), storeErr: errors.New("away"), nack: "park delivery: away\nboom", result: "error", logs: "not settled"},
		"what cannot be dead-lettered comes again": {action: fails(event.Permanent(boom)), storeErr: errors.New("away"), nack: "store dead letter: away", result: "error"},
		"log drops it":                             {action: fails(event.Permanent(boom)), on: middleware.FailureLog, result: "dropped", logs: "level=ERROR"},
		"alert stores it and says so loudly":       {action: fails(event.Permanent(boom)), on: middleware.FailureAlert, dead: 1, result: "dead_letter", logs: "level=ERROR"},
		"dlq stores it":                            {action: fails(event.Permanent(boom)), dead: 1, result: "dead_letter", logs: "level=WARN", doNotLogs: "level=ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			r.stores.err = tc.storeErr
			if tc.on != "" {
				r.chain.OnFailure = tc.on
			}
			err := r.run(t.Context(), tc.earlier, tc.action)
			if tc.nack == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tc.nack)
			}
			require.Len(t, r.stores.parked, tc.parked)
			require.Len(t, r.stores.dead, tc.dead)
			for _, d := range append(r.stores.parked, r.stores.dead...) {
				require.Len(t, d.Attempts, tc.earlier+1, "the failure is remembered")
			}
			require.InDelta(t, 1, testutil.ToFloat64(r.metrics.Actions.WithLabelValues("o", "a", "test", tc.result)), 0)
			alerts := map[bool]float64{true: 1}[tc.on == middleware.FailureAlert]
			require.InDelta(t, alerts, testutil.ToFloat64(r.metrics.Alerts.WithLabelValues("o")), 0)
			require.Contains(t, r.log.String(), tc.logs)
			if tc.doNotLogs != "" {
				require.NotContains(t, r.log.String(), tc.doNotLogs)
			}
		})
	}
}

func TestWhatShutdownCancelsIsNoFailure(t *testing.T) {
	r := newRig()
	ctx, cancel := context.WithCancel(t.Context())
	err := r.run(ctx, 2, func(msg *message.Message) ([]*message.Message, error) {
		cancel()
		return nil, msg.Context().Err()
	})
	require.ErrorIs(t, err, context.Canceled, "nack: it is left for the next process")
	require.Empty(t, r.stores.parked)
	require.Empty(t, r.stores.dead)
}

func TestWithoutTheLeaseNoActionRunsAndNothingFails(t *testing.T) {
	r := newRig()
	r.chain.Held = func() bool { return false }
	err := r.run(t.Context(), 2, func(*message.Message) ([]*message.Message, error) {
		t.Error("the action ran")
		return nil, nil
	})
	require.ErrorIs(t, err, event.ErrBusy, "nack: it waits for the lease, or is left to the successor")
	require.Empty(t, r.stores.parked)
	require.Empty(t, r.stores.dead)
	require.Empty(t, r.log.String())
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.Actions.WithLabelValues("o", "a", "test", "busy")), 0)
}

func TestAnAttemptThatTakesTooLongIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		require.NoError(t, r.run(t.Context(), 0, func(msg *message.Message) ([]*message.Message, error) {
			<-msg.Context().Done()
			return nil, msg.Context().Err()
		}))
		require.Len(t, r.stores.parked, 1)
		require.Equal(t, "context deadline exceeded", r.stores.parked[0].Attempts[0].Error)
	})
}

func TestTheReceiverMayAskForMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tc := range map[string]struct{ asked, want time.Duration }{
			"less than the backoff": {time.Millisecond, time.Second},
			"more than the backoff": {time.Minute, time.Minute},
			"more than an hour":     {48 * time.Hour, time.Hour},
		} {
			r := newRig()
			require.NoError(t, r.run(t.Context(), 0, fails(event.RetryAfter(errors.New("429"), tc.asked))), name)
			require.Equal(t, tc.want, time.Until(r.stores.due[0]), name)
		}
	})
}

func TestTeamMiddlewareStandsAroundTheActionOuterFirst(t *testing.T) {
	r := newRig()
	var order []string
	note := func(name string) message.HandlerMiddleware {
		return func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				_, bounded := msg.Context().Deadline()
				order = append(order, name)
				require.False(t, bounded, "the attempt's time stands inside")
				return next(msg)
			}
		}
	}
	r.chain.Team = []message.HandlerMiddleware{note("outer"), note("inner")}
	require.NoError(t, r.run(t.Context(), 0, func(msg *message.Message) ([]*message.Message, error) {
		_, bounded := msg.Context().Deadline()
		require.True(t, bounded)
		order = append(order, "action")
		return nil, nil
	}))
	require.Equal(t, "outer inner action", strings.Join(order, " "))
}

func TestAPanicOfTheTeamsIsAFailedAttempt(t *testing.T) {
	r := newRig()
	r.chain.Team = []message.HandlerMiddleware{func(message.HandlerFunc) message.HandlerFunc {
		return func(*message.Message) ([]*message.Message, error) { panic("oh") }
	}}
	require.NoError(t, r.run(t.Context(), 0, fails(nil)))
	require.Len(t, r.stores.parked, 1)
	require.NoError(t, r.run(t.Context(), 2, fails(nil)))
	require.Len(t, r.stores.dead, 1)
}

func TestMessagesOfTheTeamsGoNowhere(t *testing.T) {
	handler := middleware.Settle(slog.New(slog.DiscardHandler))(func(*message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("more", nil)}, nil
	})
	settled, err := handler(message.NewMessage("e", nil))
	require.NoError(t, err)
	require.Empty(t, settled, "the router has no topic for them, and would call it a failure")
}

func TestDelays(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  middleware.RetryConfig
		want []int64
	}{
		"exponential": {middleware.RetryConfig{InitialDelayMS: 100, MaxDelayMS: 500, BackoffStrategy: "exponential"}, []int64{100, 200, 400, 500, 500}},
		"linear":      {middleware.RetryConfig{InitialDelayMS: 100, MaxDelayMS: 350, BackoffStrategy: "linear"}, []int64{100, 200, 300, 350}},
		"fixed":       {middleware.RetryConfig{InitialDelayMS: 100, MaxDelayMS: 350, BackoffStrategy: "fixed"}, []int64{100, 100, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, want := range tc.want {
				require.Equal(t, want, tc.cfg.Delay(i+1, 0).Milliseconds(), "after attempt %d", i+1)
			}
		})
	}
	jitter := middleware.RetryConfig{InitialDelayMS: 1000, MaxDelayMS: 1000, BackoffStrategy: "fixed", Jitter: true}
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := jitter.Delay(1, 0)
		low, high = min(low, d), max(high, d)
	}
	require.InDelta(t, 500, low.Milliseconds(), 20)
	require.InDelta(t, 1000, high.Milliseconds(), 20)
}
