package middleware

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/event"
)

// Trace makes one span for each attempt of an action, "<observer>/<action>", whose parent is the trace context in which the
// change was made. The action finds the span in its context, and sends it on as traceparent. kind is the type of the action.
//
// It stands outside of what parks and dead-letters, to see the outcome, and outside of [Attempts], to see the failure.
func Trace(tracer trace.Tracer, observer, action, kind string) message.HandlerMiddleware {
	name := observer + "/" + action
	options := []trace.SpanStartOption{trace.WithSpanKind(spanKind(kind)), trace.WithAttributes(
		attribute.String("messaging.system", "fraiseql_observer"), attribute.String("messaging.operation.type", "process"),
		attribute.String("observer.name", observer), attribute.String("observer.action.name", action), attribute.String("observer.action.type", kind),
	)}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			outer := msg.Context()
			ctx, span := tracer.Start(parent(outer), name, options...)
			defer span.End() // a panic of what stands inside ends the span as well
			msg.SetContext(ctx)
			if span.IsRecording() {
				describe(span, event.FromContext(ctx))
			}
			msgs, err := next(msg)
			if span.IsRecording() {
				conclude(span, msg, err)
			}
			return msgs, err
		}
	}
}

// spanKind is client where another service is called, so that its own span is shown as the other end of this one.
func spanKind(action string) trace.SpanKind {
	switch action {
	case "webhook", "slack", "email", "sql", "database", "cache":
		return trace.SpanKindClient
	case "publish":
		return trace.SpanKindProducer
	}
	return trace.SpanKindConsumer
}

// parent returns ctx with the trace context of its event as the remote parent, if there is one.
func parent(ctx context.Context) context.Context {
	d := event.FromContext(ctx)
	if d == nil || d.Event.Trace.Parent == "" {
		return ctx
	}
	carrier := propagation.MapCarrier{"traceparent": d.Event.Trace.Parent}
	if d.Event.Trace.State != "" {
		carrier["tracestate"] = d.Event.Trace.State
	}
	return propagation.TraceContext{}.Extract(ctx, carrier)
}

func describe(span trace.Span, d *event.Delivery) {
	if d == nil {
		return
	}
	span.SetAttributes(
		attribute.String("messaging.message.id", d.Event.ID),
		attribute.String("observer.entity", d.Event.Entity),
		attribute.String("observer.event.type", string(d.Event.Type)),
		attribute.Int("observer.attempt", d.Tries()+1),
	)
}

// conclude writes the outcome. A failed attempt gives its error, as the log does; what another worker holds, and what
// shutdown cancelled, is no failure.
func conclude(span trace.Span, msg *message.Message, err error) {
	if err == nil {
		span.SetAttributes(attribute.String("observer.outcome", "success"))
		return
	}
	result := outcome(err)
	if result == "error" && msg.Context().Err() != nil {
		result = "cancelled"
	}
	span.SetAttributes(attribute.String("observer.outcome", result))
	if result == "busy" || result == "cancelled" {
		return
	}
	class, text := event.Class(err), err.Error()
	if d := event.FromContext(msg.Context()); d != nil && len(d.Attempts) > 0 {
		last := d.Attempts[len(d.Attempts)-1]
		class, text = last.Class, last.Error
	}
	span.SetAttributes(attribute.String("error.type", class))
	span.SetStatus(codes.Error, text)
}
