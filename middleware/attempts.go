package middleware

import (
	"errors"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// errorLimit bounds what an attempt remembers of its error.
const errorLimit = 1024

// Attempts writes each failure into the delivery that the message's context carries, for the middlewares outside it. What
// shutdown cancelled is no failure, and what was deferred no attempt.
func Attempts(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		msgs, err := next(msg)
		if err == nil || event.Settled(err) || errors.Is(err, event.ErrBusy) || msg.Context().Err() != nil {
			return msgs, err
		}
		if _, deferred := event.Deferred(err); deferred {
			return nil, err
		}
		remember(msg, err)
		return nil, err
	}
}

func remember(msg *message.Message, err error) {
	d := *event.FromContext(msg.Context())
	failed := event.Attempt{At: time.Now().UTC(), Error: bounded(err.Error()), Class: event.Class(err)}
	d.Attempts = append(slices.Clip(d.Attempts), failed)
	msg.SetContext(event.NewContext(msg.Context(), &d))
}

func bounded(s string) string {
	if len(s) <= errorLimit {
		return s
	}
	return s[:errorLimit] + "…"
}
