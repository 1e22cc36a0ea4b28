package handlers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
)

func TestGateKeepsToItsRate(t *testing.T) {
	for name, tc := range map[string]struct {
		rate     float64
		requests int
		want     time.Duration
	}{
		"ten a second":           {10, 51, 5 * time.Second},
		"one in two seconds":     {0.5, 4, 6 * time.Second},
		"one in a quarter hour":  {1.0 / 900, 2, 15 * time.Minute},
		"a thousand a second":    {1000, 1001, time.Second},
		"any rate":               {0, 1000, 0},
		"the first one at least": {0.001, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, start := newGate(tc.rate, 0), time.Now()
				var running sync.WaitGroup
				for range tc.requests {
					running.Go(func() {
						if err := g.enter(t.Context()); err != nil {
							t.Error(err)
						}
						g.leave()
					})
				}
				running.Wait()
				require.InDelta(t, tc.want.Seconds(), time.Since(start).Seconds(), 0.001)
			})
		})
	}
}

func TestGateSavesNoRequestsForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 0)
		require.NoError(t, g.enter(t.Context()))
		<-time.After(time.Hour)
		start := time.Now()
		for range 4 {
			require.NoError(t, g.enter(t.Context()))
		}
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestGateKeepsOrder(t *testing.T) {
	for name, build := range map[string]func() gate{
		"of a rate":             func() gate { return newGate(10, 0) },
		"of requests in flight": func() gate { return newGate(0, 1) },
		"of both":               func() gate { return newGate(10, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := build()
				entered := make(chan int, 20) // one for each
				var running sync.WaitGroup
				for i := range cap(entered) {
					running.Go(func() {
						if err := g.enter(t.Context()); err != nil {
							t.Error(err)
						}
						entered <- i
						<-time.After(time.Second)
						g.leave()
					})
					synctest.Wait() // it stands in line now, or has entered
				}
				running.Wait()
				for i := range cap(entered) {
					require.Equal(t, i, <-entered)
				}
			})
		})
	}
}

func TestGateWaitEndsWithItsContext(t *testing.T) {
	for name, build := range map[string]func() gate{
		"of a rate":             func() gate { return newGate(0.1, 0) },
		"of requests in flight": func() gate { return newGate(0, 1) },
		"of both":               func() gate { return newGate(0.1, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, start := build(), time.Now()
				require.NoError(t, g.enter(t.Context()))
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				err := g.enter(ctx)
				require.ErrorIs(t, err, context.Canceled)
				require.False(t, event.IsPermanent(err))
				require.Equal(t, time.Second, time.Since(start))

				short, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.False(t, event.IsPermanent(g.enter(short)))

				g.leave()
				require.NoError(t, g.enter(t.Context()), "who gave up holds neither a slot nor a place")
				require.LessOrEqual(t, time.Since(start), 10*time.Second)
			})
		})
	}
}

// countingServer is a receiver that counts the requests it has at the same time.
type countingServer struct {
	*httptest.Server

	now, most, all atomic.Int64
}

func newCountingServer(t *testing.T, takes time.Duration) *countingServer {
	t.Helper()
	c := &countingServer{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		now := c.now.Add(1)
		defer c.now.Add(-1)
		c.all.Add(1)
		for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); {
			most = c.most.Load()
		}
		<-time.After(takes)
	}))
	t.Cleanup(c.Close)
	return c
}

// crowd runs an action in n goroutines at the same time.
func crowd(t *testing.T, w *Webhook, n int) {
	t.Helper()
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			if err := w.Run(t.Context(), newTestDelivery(`{}`)); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
}

func TestGateBoundsTheRequestsInFlight(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   WebhookConfig
		most  int64
		least time.Duration
	}{
		"one":                 {WebhookConfig{MaxInFlight: 1}, 1, 64 * 5 * time.Millisecond},
		"seven":               {WebhookConfig{MaxInFlight: 7}, 7, 64 / 7 * 5 * time.Millisecond},
		"three and at a rate": {WebhookConfig{MaxInFlight: 3, RateLimit: 100}, 3, 630 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCountingServer(t, 5*time.Millisecond)
			tc.cfg.URL = secret.String(c.URL)
			start := time.Now()
			crowd(t, newTestWebhook(t, newTestHTTP(t), tc.cfg), 64)
			require.GreaterOrEqual(t, time.Since(start), tc.least)
			require.EqualValues(t, 64, c.all.Load())
			require.LessOrEqual(t, c.most.Load(), tc.most)
		})
	}
}

func TestGateUsesItsSlots(t *testing.T) {
	c := newCountingServer(t, 50*time.Millisecond)
	crowd(t, newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(c.URL), MaxInFlight: 8}), 64)
	require.Greater(t, c.most.Load(), int64(1))
}

func TestGateWaitIsNotTheAttempts(t *testing.T) {
	for name, cfg := range map[string]WebhookConfig{"for its turn": {RateLimit: 2}, "for a slot": {MaxInFlight: 1}} {
		t.Run(name, func(t *testing.T) {
			c := newCountingServer(t, 300*time.Millisecond)
			cfg.URL, cfg.TimeoutMS = secret.String(c.URL), 1000
			start := time.Now()
			crowd(t, newTestWebhook(t, newTestHTTP(t), cfg), 5)
			require.Greater(t, time.Since(start), 1400*time.Millisecond, "the last one waited for longer than an attempt may take")
		})
	}
}

func TestGateOfAWebhookEndsWithItsContext(t *testing.T) {
	c := newCountingServer(t, 0)
	w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(c.URL), RateLimit: 0.001})
	require.NoError(t, w.Run(t.Context(), newTestDelivery(`{}`)))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	require.ErrorIs(t, w.Run(ctx, newTestDelivery(`{}`)), context.Canceled)
	require.EqualValues(t, 1, c.all.Load())
}

func TestGateIsLeftByRequestsThatFail(t *testing.T) {
	c := newCountingServer(t, 0)
	w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(c.URL), BodyTemplate: `{{ data.n }}`, MaxInFlight: 2})
	for range 5 {
		require.True(t, event.IsPermanent(w.Run(t.Context(), newTestDelivery(`{}`))))
	}
	require.NoError(t, w.Run(t.Context(), newTestDelivery(`{"n": 1}`)))
}
