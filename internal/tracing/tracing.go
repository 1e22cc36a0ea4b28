package tracing

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// defaultService is the service's name where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES give none.
const defaultService = "observer"

// scope names the instrumentation in what is sent.
const scope = "github.com/fraiseql/observer"

// Tracing makes spans and sends them in the background. A collector that is slow or away costs spans, never time: the queue
// is bounded, and what does not fit is dropped.
type Tracing struct {
	provider *sdk.TracerProvider
	exporter sdk.SpanExporter
	errors   *quiet
	version  string
}

// Start starts sending. It needs no collector that answers. Errors of the exporter go to log, at most one a minute; for that
// it sets the one error handler that OpenTelemetry has for a process. The caller ends it with [Tracing.Close].
func (s *Settings) Start(ctx context.Context, version string, log *slog.Logger) (*Tracing, error) {
	errors := &quiet{log: log}
	otel.SetErrorHandler(errors)
	exporter, err := s.exporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", defaultService), attribute.String("service.version", version),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("start tracing: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &Tracing{
		provider: sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(described)),
		exporter: exporter, errors: errors, version: version,
	}, nil
}

func (s *Settings) exporter(ctx context.Context) (sdk.SpanExporter, error) {
	if s.protocol == grpcProtocol {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// Tracer returns the tracer of the program's spans.
func (t *Tracing) Tracer() trace.Tracer {
	return t.provider.Tracer(scope, trace.WithInstrumentationVersion(t.version))
}

// Close sends what is left, for as long as ctx allows; an error says that some of it was not sent. Nothing is logged later.
func (t *Tracing) Close(ctx context.Context) error {
	defer t.errors.close()
	err := t.provider.Shutdown(ctx)
	if err != nil {
		_ = t.exporter.Shutdown(ctx) // ends a request that hangs, at once when ctx has ended; err is what counts
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}
