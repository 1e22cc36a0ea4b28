package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/sony/gobreaker/v2"

	"github.com/fraiseql/observer/event"
)

const (
	endpointTrips = 10              // failures in a row that open a breaker
	endpointPause = 2 * time.Second // how long it stays open before one attempt is let through
)

// Endpoint is what actions reach, such as one HTTP server, with its circuit breaker: after ten failures in a row it is taken
// to be down, and one attempt every two seconds finds out when it is not. It is safe for concurrent use.
type Endpoint struct {
	name    string
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}] // of two steps: a function around the attempt would make its stack grow
}

// NewEndpoint returns an endpoint. changed, which may be nil, is told when its breaker opens and closes.
func NewEndpoint(name string, changed func(open bool)) *Endpoint {
	return &Endpoint{name, gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, Timeout: endpointPause, MaxRequests: 1,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= endpointTrips },
		IsSuccessful: func(err error) bool { return err == nil || event.IsPermanent(err) }, // a refusal is an answer
		IsExcluded:   func(err error) bool { return errors.Is(err, event.ErrBusy) || errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if changed != nil && to != gobreaker.StateHalfOpen {
				changed(to == gobreaker.StateOpen)
			}
		},
	})}
}

// Name returns the name that it was made with.
func (e *Endpoint) Name() string { return e.name }

// Down reports whether no attempt would be let through now.
func (e *Endpoint) Down() bool { return e.breaker.State() == gobreaker.StateOpen }

// State tells how its breaker stands: closed, open, or half-open until an attempt tells whether it works.
func (e *Endpoint) State() string { return e.breaker.State().String() }

func (e *Endpoint) refuse() error {
	return event.Defer(fmt.Errorf("%s fails again and again: it is asked every %s whether it works", e.name, endpointPause), endpointPause)
}

// Breaker lets attempts through to the endpoint while it works, and defers them (event.Defer) while it is down. Every
// failure counts, except those that are permanent: then the endpoint has answered.
func Breaker(e *Endpoint) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			done, err := e.breaker.Allow()
			if err != nil {
				return nil, e.refuse()
			}
			msgs, err := next(msg)
			done(err)
			return msgs, err
		}
	}
}
