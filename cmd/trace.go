package cmd

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// How long the end may take to send the last spans: what is left of shutdown_timeout, within these bounds.
const (
	leastFlush = time.Second
	mostFlush  = 5 * time.Second
)

// startTracing returns the tracer, nil where tracing is off, and what ends it.
func (c *compiled) startTracing(ctx context.Context, shutdown time.Duration) (tracer trace.Tracer, stop func(), err error) {
	if c.tracing == nil {
		return nil, func() {}, nil
	}
	t, err := c.tracing.Start(ctx, buildInfo().Version, c.log)
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan time.Time, 1) // one end
	noted := context.AfterFunc(ctx, func() { ended <- time.Now() })
	return t.Tracer(), func() {
		left := shutdown
		if !noted() {
			left -= time.Since(<-ended)
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(max(left, leastFlush), mostFlush))
		defer cancel()
		if err := t.Close(limit); err != nil {
			c.log.Warn("some spans were not sent", slog.Any("error", err))
		}
	}, nil
}
