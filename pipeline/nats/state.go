package nats

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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

// Lag asks the server about the consumer of the configuration, or about those of its partitions.
func (t *Topology) Lag(ctx context.Context) (Lag, error) {
	lag := Lag{Stream: t.cfg.StreamName, Consumer: t.cfg.ConsumerName}
	infos, err := t.consumerInfos(ctx, t.cfg.ConsumerName)
	for _, info := range infos {
		lag.Pending += info.NumPending
		lag.AckPending += info.NumAckPending
	}
	return lag, wrap("look at consumer "+lag.Consumer, err)
}

// consumerInfos asks about the consumers of a group.
func (t *Topology) consumerInfos(ctx context.Context, group string) ([]*jetstream.ConsumerInfo, error) {
	names := consumers(group, t.cfg.JetStream.Partitions)
	if len(names) == 1 {
		c, err := t.JS.Consumer(ctx, t.cfg.StreamName, names[0])
		if err != nil {
			return nil, err
		}
		return []*jetstream.ConsumerInfo{c.CachedInfo()}, nil
	}
	stream, err := t.JS.Stream(ctx, t.cfg.StreamName)
	if err != nil {
		return nil, err
	}
	infos := make([]*jetstream.ConsumerInfo, 0, len(names))
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if slices.Contains(names, info.Name) {
			infos = append(infos, info)
		}
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	if len(infos) < len(names) {
		return infos, jetstream.ErrConsumerNotFound
	}
	return infos, nil
}

// Subject is where an event is published.
func (t *Topology) Subject(e *event.Event) string { return t.cfg.subjectOf(e) }
