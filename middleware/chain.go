package middleware

import (
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/internal/metrics"
)

// Chain is what stands around one action. The order of its middlewares is a contract, kept by a test:
//
//	recover      nothing that follows can end the process
//	settle       outcome -> ack or nack
//	metrics      counts the outcome
//	trace        makes a span of the attempt, where tracing is on
//	dead letter  ends what failed for good
//	retry        parks what may succeed later
//	attempts     remembers the failure
//	recover      a panic of the team's is a failed attempt
//	team         the team's own, outer first
//	recover      a panic of the action is a failed attempt
//	timeout      bounds the attempt, where the action does not do that itself
//	fence        looks a last time whether this process still leads
type Chain struct {
	Observer, Action, Kind string
	OnFailure              OnFailure
	Retry                  RetryConfig
	Timeout                time.Duration // 0: the action bounds its attempts itself
	Team                   []message.HandlerMiddleware
	Held                   func() bool // whether this process may run actions; nil: always

	RetryQueue  RetryQueue
	DeadLetters DeadLetters
	Metrics     *metrics.Metrics
	Tracer      trace.Tracer // nil: tracing is off, and the chain has no middleware for it
	Log         *slog.Logger
}

// Middlewares returns the chain, outermost first.
func (c Chain) Middlewares() []message.HandlerMiddleware {
	list := []message.HandlerMiddleware{
		Recover(c.Log),
		Settle(c.Log),
		Metrics(c.Metrics, c.Observer, c.Action, c.Kind, c.OnFailure),
	}
	if c.Tracer != nil {
		list = append(list, Trace(c.Tracer, c.Observer, c.Action, c.Kind))
	}
	list = append(list,
		DeadLetter(c.DeadLetters, c.OnFailure, c.Log),
		Retry(c.Retry, c.RetryQueue, c.Log.With(slog.String("observer", c.Observer), slog.String("action", c.Action))),
		Attempts,
	)
	if len(c.Team) > 0 {
		list = append(list, Recover(c.Log))
		for _, m := range c.Team {
			list = append(list, keepContext(m))
		}
	}
	list = append(list, Recover(c.Log))
	if c.Timeout > 0 {
		list = append(list, Timeout(c.Timeout))
	}
	if c.Held != nil {
		list = append(list, Fence(c.Held))
	}
	return list
}
