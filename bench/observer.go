package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/cmd"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

// observe is the program under test, with one action type more.
func observe(s spec) int {
	stop, err := startProfile(s.Profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	code := cmd.Main(cmd.WithAction("noop", func(*struct{}, handlers.Env) (handlers.Action, error) {
		return newNoop(s), nil
	}))
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	return code
}

// noop is an action that does nothing but count, and reports when it has seen every change.
type noop struct {
	after, want int64
	begun       time.Time
	first       atomic.Int64 // nanoseconds after begun, plus 1
	seen        []atomic.Bool
	events      atomic.Int64
	distinct    atomic.Int64
}

func newNoop(s spec) *noop {
	return &noop{after: s.After, want: s.Want, begun: time.Now(), seen: make([]atomic.Bool, s.Want)}
}

// Run implements handlers.Action.
func (n *noop) Run(_ context.Context, d *event.Delivery) error {
	if n.first.Load() == 0 {
		n.first.CompareAndSwap(0, int64(time.Since(n.begun))+1)
	}
	n.events.Add(1)
	at := d.Event.Seq - n.after - 1
	if at < 0 || at >= n.want {
		return fmt.Errorf("event %d is none of those that were written", d.Event.Seq)
	}
	if n.seen[at].Swap(true) {
		if done := n.distinct.Load(); done == n.want { // came after the end
			report{Events: n.events.Load(), Distinct: done}.print()
		}
		return nil
	}
	if n.distinct.Add(1) == n.want {
		took := time.Since(n.begun) - time.Duration(n.first.Load())
		report{Events: n.events.Load(), Distinct: n.want, Seconds: took.Seconds()}.print()
	}
	return nil
}

// startProfile writes CPU and heap profiles when prefix is not empty.
func startProfile(prefix string) (stop func() error, err error) {
	if prefix == "" {
		return func() error { return nil }, nil
	}
	processor, err := os.Create(prefix + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	if err = pprof.StartCPUProfile(processor); err != nil {
		return nil, errors.Join(err, processor.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(prefix + ".heap.pprof")
		if err != nil {
			return errors.Join(err, processor.Close())
		}
		runtime.GC()
		return errors.Join(pprof.Lookup("allocs").WriteTo(heap, 0), heap.Close(), processor.Close())
	}, nil
}
