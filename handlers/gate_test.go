package handlers

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
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

// counting is a receiver, reached over pipes, that counts the requests it has at the same time.
type counting struct {
	now, most, all atomic.Int64
}

// newCounting returns a receiver that takes so long for each request, and what sends to it by the clock of a bubble.
func newCounting(t *testing.T, takes time.Duration) (*counting, *HTTP) {
	t.Helper()
	c, h, listener := &counting{}, newTestHTTP(t), make(pipes)
	server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		now := c.now.Add(1)
		defer c.now.Add(-1)
		c.all.Add(1)
		for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); {
			most = c.most.Load()
		}
		<-time.After(takes)
	})}
	h.plain.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, conn := net.Pipe()
		listener <- conn
		return client, nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return c, h
}

// pipes is a listener that accepts what is sent to it.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// receiving is the URL of a receiver that is reached over pipes.
const receiving = "http://receiver.test/"

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
	const takes = 5 * time.Millisecond
	for name, tc := range map[string]struct {
		cfg  WebhookConfig
		most int64
		want time.Duration
	}{
		"one":                  {WebhookConfig{MaxInFlight: 1}, 1, 64 * takes},
		"seven":                {WebhookConfig{MaxInFlight: 7}, 7, 10 * takes},
		"three and at a rate":  {WebhookConfig{MaxInFlight: 3, RateLimit: 100}, 1, 630*time.Millisecond + takes},
		"three where it bites": {WebhookConfig{MaxInFlight: 3, RateLimit: 1000}, 3, 22 * takes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, h := newCounting(t, takes)
				tc.cfg.URL = receiving
				start := time.Now()
				crowd(t, newTestWebhook(t, h, tc.cfg), 64)
				require.InDelta(t, tc.want.Seconds(), time.Since(start).Seconds(), 0.004)
				require.EqualValues(t, 64, c.all.Load())
				require.Equal(t, tc.most, c.most.Load())
			})
		})
	}
}

func TestGateWaitIsNotTheAttempts(t *testing.T) {
	for name, cfg := range map[string]WebhookConfig{"for its turn": {RateLimit: 2}, "for a slot": {MaxInFlight: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, h := newCounting(t, 300*time.Millisecond)
				cfg.URL, cfg.TimeoutMS = receiving, 1000
				start := time.Now()
				crowd(t, newTestWebhook(t, h, cfg), 5)
				require.GreaterOrEqual(t, time.Since(start), 1500*time.Millisecond, "the last one waited for longer than an attempt may take")
			})
		})
	}
}

func TestGateOfAWebhookEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newCounting(t, 0)
		w := newTestWebhook(t, h, WebhookConfig{URL: receiving, RateLimit: 0.001})
		require.NoError(t, w.Run(t.Context(), newTestDelivery(`{}`)))
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, w.Run(ctx, newTestDelivery(`{}`)), context.Canceled)
		require.Equal(t, time.Second, time.Since(start))
		require.EqualValues(t, 1, c.all.Load())
	})
}

func TestGateIsLeftByRequestsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := newCounting(t, 0)
		w := newTestWebhook(t, h, WebhookConfig{URL: receiving, BodyTemplate: `{{ data.n }}`, MaxInFlight: 2})
		for range 5 {
			require.True(t, event.IsPermanent(w.Run(t.Context(), newTestDelivery(`{}`))))
		}
		require.NoError(t, w.Run(t.Context(), newTestDelivery(`{"n": 1}`)))
	})
}
