package handlers

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/internal/http1"
)

// traceTo names the span of ctx to the receiver, as https://www.w3.org/TR/trace-context/ says. There is one where tracing is
// on, also where its trace is not sampled. It has returned before the request is sent, so that its frames add nothing to the
// stack that a delivery needs; those of the propagator are large, and most programs do not trace.
func traceTo(ctx context.Context, r *http1.Request) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		propagation.TraceContext{}.Inject(ctx, (*carrier)(r))
	}
}

// carrier lets a propagator write headers.
type carrier http1.Request

var _ propagation.TextMapCarrier = (*carrier)(nil)

// Set implements propagation.TextMapCarrier. The names that it is given are reserved: the file cannot set them.
func (c *carrier) Set(name, value string) {
	c.Header = append(c.Header, http1.Field{Name: name, Value: value})
}

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(name string) string {
	for _, f := range c.Header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Keys implements propagation.TextMapCarrier.
func (c *carrier) Keys() []string {
	names := make([]string, len(c.Header))
	for i, f := range c.Header {
		names[i] = f.Name
	}
	return names
}
