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
)

// retryAfterLimit caps what a receiver may ask for.
const retryAfterLimit = time.Hour

// Retry parks a delivery whose attempt failed: it is stored with its due time and settles as event.ErrParked, so that
// waiting holds no slot and survives a restart. A permanent error, and the last attempt's, come out marked
// event.Permanent. It counts the attempts that [Attempts] wrote.
func Retry(cfg RetryConfig, queue RetryQueue, log *slog.Logger) message.HandlerMiddleware {
	trouble := outage.New(log, "deliveries fail and are parked", "")
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msgs, err := next(msg)
			if err == nil || event.Settled(err) || errors.Is(err, event.ErrBusy) || event.IsPermanent(err) || msg.Context().Err() != nil {
				return msgs, err
			}
			return nil, park(msg.Context(), cfg, queue, trouble, err)
		}
	}
}

func park(ctx context.Context, cfg RetryConfig, queue RetryQueue, trouble *outage.Log, err error) error {
	d := event.FromContext(ctx)
	if d.Tries() >= cfg.MaxAttempts {
		return event.Permanent(err)
	}
	due := time.Now().Add(cfg.Delay(d.Tries(), event.RetryDelay(err)))
	if parkErr := queue.Park(ctx, d, due); parkErr != nil {
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
