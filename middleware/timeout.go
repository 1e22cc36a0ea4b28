package middleware

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Timeout ends the context of one attempt after d. What stands outside sees the message with its own context again.
func Timeout(d time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			outer := msg.Context()
			ctx := withTimeout(outer, d)
			msg.SetContext(ctx)
			defer func() {
				ctx.end()
				msg.SetContext(outer)
			}()
			return next(msg)
		}
	}
}
