package middleware

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// OnFailure says what becomes of a delivery that failed for good.
type OnFailure string

// The choices of an observer's on_failure key.
const (
	FailureDLQ   OnFailure = "dlq"   // stored as a dead letter
	FailureAlert OnFailure = "alert" // stored, an error-level log line and a metric
	FailureLog   OnFailure = "log"   // logged and dropped; a replay's dead letter is kept
)

// DeadLetter ends a delivery whose error is marked event.Permanent: it settles as event.ErrDeadLettered once it is
// stored, or as event.ErrDropped.
func DeadLetter(store DeadLetters, on OnFailure, log *slog.Logger) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msgs, err := next(msg)
			if err == nil || !event.IsPermanent(err) || msg.Context().Err() != nil {
				return msgs, err
			}
			return nil, bury(msg.Context(), store, on, log, err)
		}
	}
}

func bury(ctx context.Context, store DeadLetters, on OnFailure, log *slog.Logger, err error) error {
	d := event.FromContext(ctx)
	failed := log.With(slog.String("observer", d.Observer), slog.String("action", d.Action), slog.String("entity", d.Event.Entity),
		slog.String("event_id", d.Event.ID), slog.Int("attempt", len(d.Attempts)), slog.Any("error", err))
	if on == FailureLog && d.Generation == 0 {
		failed.Error("delivery failed for good and was dropped")
		return event.ErrDropped
	}
	if storeErr := store.Put(ctx, d); storeErr != nil {
		return fmt.Errorf("store dead letter: %w", storeErr)
	}
	if on == FailureAlert {
		failed.Error("delivery became a dead letter")
	} else {
		failed.Warn("delivery became a dead letter")
	}
	return event.ErrDeadLettered
}
