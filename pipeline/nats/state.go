package nats

import (
	"context"
	"time"

	"github.com/fraiseql/observer/event"
)

// Ahead is the window for [Setup] of workers that limit themselves: how many events may be out over all of them.
const Ahead = 100_000

// State is how far the event stream is filled and emptied.
type State struct {
	Created time.Time // a stream that was deleted and created again is another one
	First   uint64    // sequence of the first event that is not settled by everybody who has to; Last + 1 when all are
	Last    uint64    // sequence of the event that was published last
	Events  uint64    // how many are in the stream
	Oldest  time.Time // when the first of them was published; zero without any
}

// State asks the server.
func (t *Topology) State(ctx context.Context) (State, error) {
	stream, err := t.JS.Stream(ctx, t.cfg.StreamName)
	if err != nil {
		return State{}, wrap("look at stream "+t.cfg.StreamName, err)
	}
	info := stream.CachedInfo()
	s := State{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq, Events: info.State.Msgs}
	if s.Events > 0 {
		s.Oldest = info.State.FirstTime
	}
	return s, nil
}

// Lag is how far the workers of a consumer are behind, all together.
type Lag struct {
	Stream, Consumer string
	Pending          uint64 // not handed out yet
	AckPending       int    // handed out and not settled
}

// Lag asks the server about the consumer of the configuration.
func (t *Topology) Lag(ctx context.Context) (Lag, error) {
	name := consumer(t.cfg.ConsumerName, AllTopics)
	c, err := t.JS.Consumer(ctx, t.cfg.StreamName, name)
	if err != nil {
		return Lag{}, wrap("look at consumer "+name, err)
	}
	info := c.CachedInfo()
	return Lag{t.cfg.StreamName, name, info.NumPending, info.NumAckPending}, nil
}

// Subject is where an event is published.
func (t *Topology) Subject(e *event.Event) string { return t.cfg.subject(e.Entity, e.Type) }
