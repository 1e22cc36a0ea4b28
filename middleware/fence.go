package middleware

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
)

// Fence looks at the lease once more before the action runs: a process that was stopped on the way here (SIGSTOP, a frozen
// machine) may have a successor by now. Without the lease the outcome is event.ErrBusy, which is no failed attempt.
func Fence(held func() bool) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if !held() {
				return nil, event.ErrBusy
			}
			return next(msg)
		}
	}
}
