package handlers

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"
)

// gate lets the requests of one action through: so many a second, so many at the same time. Who waits keeps its place and
// its slot, so that order holds; the time is not the attempt's.
type gate struct {
	limiter *rate.Limiter // nil: any rate
	slots   chan struct{} // nil: any number
}

func newGate(perSecond float64, inFlight int) gate {
	var g gate
	if perSecond > 0 {
		g.limiter = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	if inFlight > 0 {
		g.slots = make(chan struct{}, inFlight)
	}
	return g
}

// open reports whether nobody ever waits.
func (g gate) open() bool { return g.limiter == nil && g.slots == nil }

// enter waits until a request may start. Without an error, leave must follow.
func (g gate) enter(ctx context.Context) error {
	if g.slots != nil {
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("wait for max_in_flight: %w", ctx.Err())
		}
	}
	if g.limiter != nil {
		if err := g.limiter.Wait(ctx); err != nil {
			g.leave()
			return fmt.Errorf("wait for rate_limit: %w", err)
		}
	}
	return nil
}

func (g gate) leave() {
	if g.slots != nil {
		<-g.slots
	}
}
