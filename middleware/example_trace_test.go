package middleware_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// A handler of any Watermill router gets a span in its context, as part of the trace in which the change was made.
func ExampleTrace() {
	spans := tracetest.NewSpanRecorder()
	tracer := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("example")
	handler := middleware.Trace(tracer, "order-shipped", "notify", "webhook")(func(msg *message.Message) ([]*message.Message, error) {
		fmt.Println("trace:", trace.SpanContextFromContext(msg.Context()).TraceID())
		return nil, nil
	})

	change := &event.Event{ID: "1", Type: event.Update, Entity: "Order", Trace: event.ParseTraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}
	ctx := event.NewContext(context.Background(), &event.Delivery{Event: change, Observer: "order-shipped", Action: "notify"})
	if _, err := handler(message.NewMessageWithContext(ctx, "1", nil)); err != nil {
		fmt.Println(err)
	}

	span := spans.Ended()[0]
	fmt.Println(span.Name(), span.SpanKind(), "parent", span.Parent().SpanID())
	// Output:
	// trace: 0af7651916cd43dd8448eb211c80319c
	// order-shipped/notify client parent b7ad6b7169203331
}
