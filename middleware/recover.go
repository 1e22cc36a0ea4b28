package middleware

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// Recover turns a panic into an error of class "panic", and logs its stack.
func Recover(log *slog.Logger) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (msgs []*message.Message, err error) {
			defer func() {
				if r := recover(); r != nil {
					log.Error("panic in a handler", slog.String("event_id", msg.UUID), slog.Any("error", r), slog.String("stack", string(debug.Stack())))
					err = event.WithClass(fmt.Errorf("panic: %v", r), "panic")
				}
			}()
			return next(msg)
		}
	}
}
