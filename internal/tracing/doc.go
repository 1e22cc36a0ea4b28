// Package tracing sends spans to an OpenTelemetry collector where the standard environment variables ask for it
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Start reading at [FromEnv]; the spans
// themselves are made in middleware/trace.go.
package tracing
