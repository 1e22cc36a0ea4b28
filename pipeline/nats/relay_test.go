package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/window"
)

// changes is a source of events that notes what was settled.
type changes struct {
	mu      sync.Mutex // guards what follows
	events  []*event.Event
	settled map[string]int
}

// newChanges returns n changes, of which each entity has several.
func newChanges(n, entities int) *changes {
	l := &changes{settled: map[string]int{}}
	for i := range n {
		l.events = append(l.events, &event.Event{ID: fmt.Sprintf("event-%d", i), Type: event.Update, Entity: "Order", EntityID: strconv.Itoa(i % entities), Seq: int64(i)})
	}
	return l
}

func (l *changes) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	l.mu.Lock()
	n := min(limit, len(l.events))
	page := l.events[:n]
	l.events = l.events[n:]
	l.mu.Unlock()
	if n == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	items := make([]window.Item, n)
	for i, e := range page {
		items[i].Msg = message.NewMessageWithContext(event.WithEvent(context.Background(), e), e.ID, nil)
	}
	return items, nil
}

func (l *changes) Ack(_ context.Context, items []window.Item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, item := range items {
		l.settled[item.Msg.UUID]++
	}
	return nil
}

func (l *changes) Nack(context.Context, window.Item, time.Duration) error { return nil }
func (l *changes) Close(context.Context) error                            { return nil }

func (l *changes) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.settled)
}

// bus is a stream of one test.
type bus struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

func newBus(t *testing.T, limit int64) bus {
	t.Helper()
	return busOf(t, natsenv.JetStream(t), limit)
}

func busOf(t *testing.T, url string, limit int64) bus {
	t.Helper()
	conn, err := natsgo.Connect(url, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10*time.Millisecond), natsgo.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(2*relayAhead))
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "events", Subjects: []string{"change.>"}, MaxMsgs: limit, Discard: jetstream.DiscardNew, Retention: jetstream.WorkQueuePolicy,
	})
	require.NoError(t, err)
	return bus{js, stream}
}

func (b bus) relay(source window.Driver) *Relay {
	return NewRelay(RelayConfig{
		JetStream: b.js, Stream: "events", Source: source, Batch: 100, Log: slog.New(slog.DiscardHandler),
		Subject: func(e *event.Event) string { return "change." + e.Entity + "." + string(e.Type) },
	})
}

// drain takes everything out of the stream as a worker does, until n events have come, and returns the order of each entity.
func (b bus) drain(t *testing.T, n int) map[string][]int64 {
	t.Helper()
	consumer, err := b.stream.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	got := map[string][]int64{}
	for n > 0 {
		batch, err := consumer.Fetch(min(n, 100), jetstream.FetchMaxWait(20*time.Second))
		require.NoError(t, err)
		before := n
		for msg := range batch.Messages() {
			e, err := event.Decode(msg.Data())
			require.NoError(t, err)
			require.Equal(t, e.ID, msg.Headers().Get(jetstream.MsgIDHeader))
			got[e.EntityID] = append(got[e.EntityID], e.Seq)
			require.NoError(t, msg.Ack())
			n--
		}
		require.Less(t, n, before, "nothing more came: %v", batch.Error())
	}
	return got
}

func requireOrdered(t *testing.T, got map[string][]int64) {
	t.Helper()
	for entity, revisions := range got {
		require.IsIncreasing(t, revisions, "of entity %s", entity)
	}
}

func TestARelayPublishesEverythingOnceAndSettlesIt(t *testing.T) {
	t.Parallel()
	n := pick(testing.Short(), 1000, 5000)
	b, source := newBus(t, -1), newChanges(n, 700)
	relay := b.relay(source)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	requireOrdered(t, b.drain(t, n))
	testenv.Eventually(t, 60*time.Second, func() error {
		if have := source.count(); have < n {
			return fmt.Errorf("%d of %d are settled", have, n)
		}
		return nil
	})
	cancel()
	require.NoError(t, <-ended)
	info, err := b.stream.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, n, info.State.LastSeq, "each once")
	require.EqualValues(t, n, relay.Last())
	for id, times := range source.settled {
		require.Equal(t, 1, times, id)
	}
}

// TestARelayIsSoonItselfAfterAnOutage has a thousand events refused by a server that is away: when it is back, they go on without
// a pause before each, and the log has told of one outage.
func TestARelayIsSoonItselfAfterAnOutage(t *testing.T) {
	t.Parallel()
	const n = 1000
	s := natsenv.Start(t, server.Options{})
	b, source := busOf(t, s.URL, -1), newChanges(n, n)
	relay := b.relay(source)
	var log bytes.Buffer
	relay.trouble = outage.New(slog.New(slog.NewTextHandler(&log, nil)), "no events", "events again")
	s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	testenv.Eventually(t, 60*time.Second, func() error {
		if relay.Err() == nil {
			return errors.New("nothing has failed")
		}
		return nil
	})
	s.Start()
	testenv.Eventually(t, 60*time.Second, func() error { return relay.Err() })
	requireOrdered(t, b.drain(t, n))
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, n, source.count())
	require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
}

// TestAFullStreamHoldsTheRelayBack has events of few entities, so that one refused event would soon be overtaken by a later one.
func TestAFullStreamHoldsTheRelayBack(t *testing.T) {
	t.Parallel()
	const n, limit = 600, 50
	b, source := newBus(t, limit), newChanges(n, 7)
	relay := b.relay(source)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	testenv.Eventually(t, 60*time.Second, func() error {
		if err := relay.Err(); err == nil || !strings.Contains(err.Error(), "full") {
			return fmt.Errorf("the relay says: %w", errors.Join(err, errors.New("not that the stream is full")))
		}
		return nil
	})
	require.LessOrEqual(t, source.count(), limit, "nothing is settled that the stream does not hold")
	requireOrdered(t, b.drain(t, n))
	testenv.Eventually(t, 60*time.Second, func() error { return relay.Err() })
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, n, source.count())
}
