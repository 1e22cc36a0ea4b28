// Command custom-middleware is observer with one middleware more: audit. Its observer.toml says how to run it.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/cmd"
	"github.com/fraiseql/observer/event"
)

func main() { os.Exit(cmd.Main(cmd.WithMiddleware("audit", newAudit))) }

// newAudit is called at start, once for each action that the file puts it around. next runs that action, with the
// middlewares further in. The function that newAudit returns is called instead of next, once for each attempt.
func newAudit(next message.HandlerFunc) message.HandlerFunc {
	trail := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("log", "audit")
	return func(msg *message.Message) ([]*message.Message, error) {
		d := event.FromContext(msg.Context()) // who is told what; to forbid it, return event.Permanent(err) here
		msgs, err := next(msg)
		trail.Info("told", "observer", d.Observer, "action", d.Action, "attempt", d.Tries()+1, "result", result(err),
			"event_type", string(d.Event.Type), "entity", d.Event.Entity, "entity_id", d.Event.EntityID)
		return msgs, err // what is returned here decides what becomes of the delivery
	}
}

// result names an outcome. The text of an error may quote the row, so only its class is kept.
func result(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, context.Canceled):
		return "interrupted" // by the end of the program: the next start does it
	case event.IsPermanent(err):
		return "refused: " + event.Class(err) // no retry can mend it
	default:
		return "failed: " + event.Class(err) // tried again, unless this was the last attempt
	}
}
