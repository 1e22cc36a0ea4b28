package middleware

import (
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// Settle stands outermost and turns the outcome into what the transport understands: nil (ack) for success and for what
// is stored durably, the error (nack) for what could not be stored anywhere and must come again. Messages that a
// middleware returns go nowhere: a delivery has no topic to publish to.
func Settle(log *slog.Logger) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			_, err := next(msg)
			if err == nil || event.Settled(err) {
				return nil, nil
			}
			notSettled(msg, log, err)
			return nil, err
		}
	}
}

func notSettled(msg *message.Message, log *slog.Logger, err error) {
	if msg.Context().Err() == nil && !errors.Is(err, event.ErrBusy) {
		log.Warn("delivery not settled, will try again", slog.String("event_id", msg.UUID), slog.Any("error", err))
	}
}
