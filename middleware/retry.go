package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/internal/step"
)

// retryAfterLimit caps what a receiver may ask for.
const retryAfterLimit = time.Hour

// Retry parks a delivery whose attempt failed: it is stored with its due time and settles as event.ErrParked, so that
// waiting holds no slot and survives a restart. A permanent error, and the last attempt's, come out marked
// event.Permanent. It counts the attempts that [Attempts] wrote. A delivery that failed gives its lane up, so that others
// overtake it; with hold it does not. One that was deferred keeps it in any case.
func Retry(cfg RetryConfig, hold bool, queue RetryQueue, log *slog.Logger) message.HandlerMiddleware {
	p := &parker{cfg: cfg, hold: hold, queue: queue, failing: outage.New(log, "deliveries fail and are parked", ""), deferring: outage.New(log, "deliveries wait in the retry queue", "")}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msgs, err := next(msg)
			if err == nil || event.Settled(err) || errors.Is(err, event.ErrBusy) || event.IsPermanent(err) || msg.Context().Err() != nil {
				return msgs, err
			}
			if delay, deferred := event.Deferred(err); deferred {
				return nil, p.postpone(msg.Context(), delay, err)
			}
			return nil, p.park(msg.Context(), err)
		}
	}
}

type parker struct {
	cfg                RetryConfig
	hold               bool
	queue              RetryQueue
	failing, deferring *outage.Log
}

func (p *parker) park(ctx context.Context, err error) error {
	d := event.FromContext(ctx)
	if d.Tries() >= p.cfg.MaxAttempts {
		return event.Permanent(err)
	}
	if d.Lane != "" && !p.hold {
		overtaken := *d
		overtaken.Lane = ""
		d = &overtaken
	}
	return p.store(ctx, d, p.cfg.Delay(d.Tries(), event.RetryDelay(err)), p.failing, err)
}

func (p *parker) postpone(ctx context.Context, delay time.Duration, err error) error {
	return p.store(ctx, event.FromContext(ctx), delay, p.deferring, err)
}

func (p *parker) store(ctx context.Context, d *event.Delivery, delay time.Duration, trouble *outage.Log, err error) error {
	step.At(step.BeforePark, d.Event.ID)
	if parkErr := p.queue.Park(ctx, d, time.Now().Add(delay)); parkErr != nil {
		return fmt.Errorf("park delivery: %w", errors.Join(parkErr, err))
	}
	trouble.Failed(err)
	return event.ErrParked
}

// Delay returns the time between the n-th attempt (from 1) and the next; atLeast is what the receiver asked for.
func (c RetryConfig) Delay(n int, atLeast time.Duration) time.Duration {
	initial, longest := time.Duration(c.InitialDelayMS)*time.Millisecond, time.Duration(c.MaxDelayMS)*time.Millisecond
	d := initial
	switch c.BackoffStrategy {
	case "linear":
		d = initial * time.Duration(n)
	case "exponential":
		for i := 1; i < n && d < longest; i++ {
			d *= 2
		}
	}
	d = min(d, longest)
	if c.Jitter {
		d = time.Duration(float64(d) * (0.5 + rand.Float64()/2))
	}
	return max(d, min(atLeast, retryAfterLimit))
}
