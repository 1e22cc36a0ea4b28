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
//	dedup        skips what is done, and lets no two run at once; outside all that stores what failed, so that this is durable
//	             before the lease ends
//	dead letter  ends what failed for good
//	cache        skips what succeeded lately, where the action is cacheable
//	retry        parks what may succeed later
//	attempts     remembers the failure
//	recover      a panic of the team's is a failed attempt
//	team         the team's own, outer first
//	breaker      defers what would go to an endpoint that is down
//	recover      a panic of the action is a failed attempt
//	timeout      bounds the attempt, where the action does not do that itself
//	fence        looks a last time whether this process still leads
type Chain struct {
	Observer, Action, Kind string
	OnFailure              OnFailure
	Retry                  RetryConfig
	Hold                   bool          // whether a parked delivery holds the later ones of its lane
	Timeout                time.Duration // 0: the action bounds its attempts itself
	Team                   []message.HandlerMiddleware
	Endpoint               *Endpoint                 // what the action reaches, shared by all actions that do; nil: nothing
	Held                   func() bool               // whether this process may run actions; nil: always
	Dedup                  message.HandlerMiddleware // nil: none
	CacheKey               CacheKey                  // nil: the action is not cacheable

	RetryQueue  RetryQueue
	DeadLetters DeadLetters
	Results     *Results // needed with CacheKey
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
	if c.Dedup != nil {
		list = append(list, c.Dedup)
	}
	list = append(list,
		DeadLetter(c.DeadLetters, c.OnFailure, c.Log),
	)
	if c.CacheKey != nil {
		list = append(list, Cache(c.Results, c.CacheKey))
	}
	list = append(list,
		Retry(c.Retry, c.Hold, c.RetryQueue, c.Log.With(slog.String("observer", c.Observer), slog.String("action", c.Action))),
		Attempts,
	)
	if len(c.Team) > 0 {
		list = append(list, Recover(c.Log))
		for _, m := range c.Team {
			list = append(list, keepContext(m))
		}
	}
	if c.Endpoint != nil {
		list = append(list, Breaker(c.Endpoint))
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
