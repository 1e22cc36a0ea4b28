package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/memory"
	"github.com/fraiseql/observer/pipeline/window"
)

// lineLimit bounds one line of input.
const lineLimit = 64 << 20

// settledPoll is how often RunInput looks whether all is settled; only the last look delays the end.
const settledPoll = 2 * time.Millisecond

// Summary is what [Pipeline.RunInput] did.
type Summary struct {
	Events      int   `json:"events"`
	Matched     int64 `json:"matched"` // an event counts once for each observer whose condition it meets
	Delivered   int64 `json:"delivered"`
	Cached      int64 `json:"cached,omitempty"` // actions that were skipped, since an identical one succeeded lately
	DeadLetters int64 `json:"dead_letters"`
	DurationMS  int64 `json:"duration_ms"`
}

// InputError says that the input holds what is no event.
type InputError struct{ err error }

func (e *InputError) Error() string { return e.err.Error() }
func (e *InputError) Unwrap() error { return e.err }

// RunInput delivers the events of an NDJSON stream and returns when all are settled or ctx has ended. A line that is no
// event ends the reading with an [*InputError] that names it; what came before is delivered all the same.
func (p *Pipeline) RunInput(ctx context.Context, name string, in io.Reader) (Summary, error) {
	const topic, group = "input", "input"
	start := time.Now()
	perf := p.plan.cfg.Performance
	broker, retries, dead := memory.NewBroker(perf.ChannelCapacity), memory.NewRetryQueue(), &memory.DeadLetters{}
	size := window.Config{Size: perf.ChannelCapacity, Direct: true, DrainTimeout: perf.ShutdownTimeout, Log: p.log}
	events, err := memory.NewSubscriber(broker, group, size)
	if err != nil {
		return Summary{}, err
	}
	size.Open = func(context.Context, string) (window.Driver, error) { return retries, nil }
	parked, err := window.New(size)
	if err != nil {
		return Summary{}, err
	}
	dedup, err := p.openDedup(func() (middleware.DedupStore, func()) { return &memory.Dedup{}, func() {} })
	if err != nil {
		return Summary{}, err
	}
	running, finish := context.WithCancel(ctx)
	defer finish()
	count, readErr := 0, error(nil)
	feeder := make(chan struct{})
	go func() {
		defer close(feeder)
		defer finish()
		count, readErr = feed(running, name, in, memory.NewPublisher(broker), topic)
		waitUntil(running, func() bool { return broker.Unsettled(topic, group) == 0 && retries.Waiting() == 0 })
	}()
	err = p.withResults(func() error {
		return p.serve(running, wiring{
			sources:    []source{{topic, events}, {"retries", parked}},
			retryQueue: retries, deadLetters: dead, dedup: dedup,
		})
	})
	dedup.close()
	finish()
	<-feeder
	if err == nil && readErr == nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %d events are not settled", broker.Unsettled(topic, group)+retries.Waiting())
	}
	return Summary{count, p.matched.Load(), p.delivered.Load(), p.cache.Hits(), p.deadLetters.Load(), time.Since(start).Milliseconds()}, errors.Join(readErr, err)
}

// feed publishes each line and returns how many events there were.
func feed(ctx context.Context, name string, in io.Reader, pub message.Publisher, topic string) (n int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineLimit)
	for line := 1; lines.Scan(); line++ {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		e, err := event.Decode(bytes.Clone(text))
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			err = fmt.Errorf("%w: one line holds one event", syntax)
		}
		if err != nil {
			return n, &InputError{fmt.Errorf("%s:%d: %w", name, line, err)}
		}
		msg := message.NewMessageWithContext(event.WithEvent(ctx, e), e.ID, e.JSON())
		if err := pub.Publish(topic, msg); err != nil {
			return n, ctx.Err()
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("read %s: %w", name, err)
	}
	return n, nil
}

func waitUntil(ctx context.Context, done func() bool) {
	tick := time.NewTicker(settledPoll)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
