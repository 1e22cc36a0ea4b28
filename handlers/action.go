package handlers

import (
	"context"
	"log/slog"
	"time"

	"github.com/fraiseql/observer/event"
)

// Action does one thing with a delivery, such as a request to a server. Run is called from many goroutines, and again
// for each retry. Its result is an outcome as in package event: nil is done, [event.Permanent] is never tried again,
// anything else is tried later. It returns when ctx ends. An action with a method Timeout() time.Duration ends each attempt
// itself after that time; ctx ends the attempts of the others.
type Action interface {
	Run(ctx context.Context, d *event.Delivery) error
}

// Env is what the program gives to every action that it builds.
type Env struct {
	Logger *slog.Logger
	// HTTP sends the requests of all actions; [NewHTTP] builds it.
	HTTP *HTTP
	// Timeout is the time for one attempt of an action that sets none.
	Timeout time.Duration
}
