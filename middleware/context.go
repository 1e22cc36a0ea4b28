package middleware

import "github.com/ThreeDotsLabs/watermill/message"

// keepContext gives the message its own context back after m. Some middlewares leave another one in it, Watermill's Timeout
// even one that has ended, and what stands outside reads the delivery and a shutdown from it.
func keepContext(m message.HandlerMiddleware) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		handler := m(next)
		return func(msg *message.Message) ([]*message.Message, error) {
			ctx := msg.Context()
			defer msg.SetContext(ctx)
			return handler(msg)
		}
	}
}
