package main

import (
	"context"
	"time"
)

// until polls until done.
func until(ctx context.Context, done func() bool) error { return poll(ctx, 5*time.Millisecond, done) }

func poll(ctx context.Context, every time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// await waits for one signal.
func await(ctx context.Context, signal <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
