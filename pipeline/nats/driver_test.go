package nats_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
)

func topology(t *testing.T, conn *natsgo.Conn, cfg nats.Config, window int) *nats.Topology {
	t.Helper()
	top, err := nats.Setup(t.Context(), conn, nil, cfg, window)
	require.NoError(t, err)
	return top
}

func publisher(t *testing.T, conn *natsgo.Conn, cfg nats.Config) *nats.Publisher {
	t.Helper()
	p, err := nats.NewPublisher(nats.PublisherConfig{Conn: conn, Config: cfg})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// worker is one process that reads; it ends with the test, unless it was killed before.
func worker(t *testing.T, url string, cfg nats.Config, window int) (d *nats.Driver, kill func()) {
	t.Helper()
	return workerThat(t, url, nats.DriverConfig{}, cfg, window)
}

// trackedWorker is one of which is told when an event begins.
func trackedWorker(t *testing.T, url string, cfg nats.Config, window int) (d *nats.Driver, kill func()) {
	t.Helper()
	return workerThat(t, url, nats.DriverConfig{Tracked: true}, cfg, window)
}

func workerThat(t *testing.T, url string, driver nats.DriverConfig, cfg nats.Config, window int) (d *nats.Driver, kill func()) {
	t.Helper()
	conn := connect(t, url)
	driver.Topology = topology(t, conn, cfg, window)
	d, err := nats.NewDriver(driver)
	require.NoError(t, err)
	nats.SetFlushTimeout(d, within)
	t.Cleanup(func() { _ = d.Close(context.WithoutCancel(t.Context())) })
	return d, conn.Close
}

func events(from, n int) []*event.Event {
	list := make([]*event.Event, n)
	for i := range list {
		list[i] = &event.Event{
			ID: fmt.Sprintf("event-%04d", from+i), Type: event.Insert, Entity: "Order.Line", EntityID: "1",
			Data: []byte(`{"n":1}`), Timestamp: time.Now(), Seq: int64(from + i),
		}
	}
	return list
}

func fetch(t *testing.T, d *nats.Driver, limit int) []window.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	items, err := d.Fetch(ctx, limit)
	require.NoError(t, err)
	return items
}

// fetchAll fetches until n items are there; one context serves them all, as a subscription's does.
func fetchAll(ctx context.Context, t *testing.T, d *nats.Driver, n int) []window.Item {
	t.Helper()
	var all []window.Item
	for len(all) < n {
		items, err := d.Fetch(ctx, n-len(all))
		require.NoError(t, err)
		all = append(all, items...)
	}
	return all
}

// nothing fails the test when something comes.
func nothing(t *testing.T, d *nats.Driver, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	items, err := d.Fetch(ctx, 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, items)
}

func TestAnEventArrivesAsItWasPublished(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	d, _ := worker(t, url, config(), 10)
	pub := publisher(t, connect(t, url), config())
	list := events(1, 3)
	stored, err := pub.PublishEvents(t.Context(), list)
	require.NoError(t, err)
	require.Equal(t, nats.Stored{Last: 3}, stored)
	stored, err = pub.PublishEvents(t.Context(), append(list, events(4, 1)...))
	require.NoError(t, err)
	require.Equal(t, nats.Stored{Last: 4, Duplicates: 3}, stored)

	items := fetchAll(t.Context(), t, d, 4)
	for i, item := range items {
		require.Equal(t, fmt.Sprintf("event-%04d", i+1), item.Msg.UUID)
		require.Equal(t, item.Msg.UUID, event.OfContext(item.Msg.Context()).ID)
		require.Empty(t, item.Msg.Metadata)
	}
	require.NoError(t, d.Ack(t.Context(), items))
	require.NoError(t, d.Close(t.Context()))
	require.Zero(t, waiting(t, url, config()))
}

// waiting is how many events the stream holds.
func waiting(t *testing.T, url string, cfg nats.Config) uint64 {
	t.Helper()
	return counting(t, url, cfg)()
}

// counting returns what asks for [waiting] each time, over one connection.
func counting(t *testing.T, url string, cfg nats.Config) func() uint64 {
	t.Helper()
	js, err := jetstream.New(connect(t, url))
	require.NoError(t, err)
	return func() uint64 {
		stream, err := js.Stream(t.Context(), cfg.StreamName)
		require.NoError(t, err)
		return stream.CachedInfo().State.Msgs
	}
}

// left waits until the stream holds n events: acks leave a moment after they were given.
func left(t *testing.T, url string, cfg nats.Config, n uint64) {
	t.Helper()
	count := counting(t, url, cfg)
	testenv.Eventually(t, within, func() error {
		if has := count(); has != n {
			return fmt.Errorf("the stream holds %d events, not %d", has, n)
		}
		return nil
	})
}

func TestWhatIsNoEventIsHandedOutAsPoison(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	d, _ := worker(t, url, config(), 10)
	conn := connect(t, url)
	require.NoError(t, conn.Publish("fraiseql.mutation.Order.INSERT", []byte(`{"entity_type":`)))
	require.NoError(t, conn.Publish("fraiseql.mutation.Order.INSERT", []byte(`{"entity_type":"Order","data":{}}`)))
	items := fetchAll(t.Context(), t, d, 2)
	require.Contains(t, items[0].Msg.Metadata.Get(window.MetadataPoison), "decode event")
	require.NotEmpty(t, items[0].Msg.UUID)
	require.Empty(t, items[1].Msg.Metadata)
	id := items[1].Msg.UUID
	require.NotEmpty(t, id)
	require.NoError(t, d.Ack(t.Context(), items[:1]))
	require.NoError(t, d.Nack(t.Context(), items[1], 0))
	again := fetch(t, d, 10)
	require.Len(t, again, 1, "the poison was acked")
	require.Equal(t, id, again[0].Msg.UUID, "an event without an id keeps the one that it got")
	require.NoError(t, d.Ack(t.Context(), again))
}

func TestAFullStreamSaysSoAndTakesMoreOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.MaxMsgs = 10
	d, _ := worker(t, url, cfg, 100)
	pub := publisher(t, connect(t, url), cfg)
	_, err := pub.PublishEvents(t.Context(), events(1, 15))
	require.ErrorIs(t, err, nats.ErrFull)
	require.ErrorContains(t, err, "max_msgs")
	require.False(t, nats.IsFatal(err))
	require.NoError(t, d.Ack(t.Context(), fetchAll(t.Context(), t, d, 10)))
	left(t, url, cfg, 0) // room for all: what becomes free meanwhile lets later ones in before the first
	_, err = pub.PublishEvents(t.Context(), events(1, 15))
	require.NoError(t, err)
	items := fetchAll(t.Context(), t, d, 5)
	require.Equal(t, "event-0011", items[0].Msg.UUID)
	require.NoError(t, d.Ack(t.Context(), items))
}

func TestTwoWorkersShare(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	one, _ := worker(t, url, config(), 100)
	two, _ := worker(t, url, config(), 100)
	_, err := publisher(t, connect(t, url), config()).PublishEvents(t.Context(), events(1, 40))
	require.NoError(t, err)
	held := fetchAll(t.Context(), t, one, 10) // and no more: the other one gets the rest
	rest := fetchAll(t.Context(), t, two, 30)
	seen := map[string]bool{}
	for _, item := range append(held, rest...) {
		require.False(t, seen[item.Msg.UUID], item.Msg.UUID)
		seen[item.Msg.UUID] = true
	}
	require.Len(t, seen, 40)
}

func TestWhatIsOutIsNotDeliveredAgainHoweverLongItRuns(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.AckWaitSecs = 1
	one, _ := worker(t, url, cfg, 100)
	two, kill := worker(t, url, cfg, 100)
	_, err := publisher(t, connect(t, url), cfg).PublishEvents(t.Context(), events(1, 2))
	require.NoError(t, err)
	held := fetchAll(t.Context(), t, one, 1)
	lost := fetchAll(t.Context(), t, two, 1)
	kill()
	again := fetch(t, one, 10)
	require.Equal(t, lost[0].Msg.UUID, again[0].Msg.UUID, "a dead worker's event comes back")
	nothing(t, one, 3*time.Second)
	require.NoError(t, one.Ack(t.Context(), append(held, again...)))
}

func TestAnEventThatEndsTheProcessRunsAloneAndThenBecomesPoison(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.AckWaitSecs = 1
	_, err := publisherOf(t, url, cfg).PublishEvents(t.Context(), events(1, 3))
	require.NoError(t, err)
	for range 2 { // together, and together again with a mark
		d, kill := worker(t, url, cfg, 100)
		fetchAll(t.Context(), t, d, 3)
		kill()
	}
	d, kill := worker(t, url, cfg, 100)
	first := fetch(t, d, 100)
	require.Len(t, first, 1, "alone")
	require.Equal(t, "event-0001", first[0].Msg.UUID)
	nothing(t, d, time.Second)
	kill()
	d, _ = worker(t, url, cfg, 100)
	outcome := map[string]string{}
	for range 3 {
		items := fetch(t, d, 1)
		outcome[items[0].Msg.UUID] = items[0].Msg.Metadata.Get(window.MetadataPoisonClass)
		require.NoError(t, d.Ack(t.Context(), items))
	}
	require.Equal(t, map[string]string{"event-0001": "poison", "event-0002": "", "event-0003": ""}, outcome)
}

// TestWhatWasOnlyReadAheadWasNotStarted ends a worker four times that has read two events and begun one.
func TestWhatWasOnlyReadAheadWasNotStarted(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.AckWaitSecs = 1
	_, err := publisherOf(t, url, cfg).PublishEvents(t.Context(), events(1, 2))
	require.NoError(t, err)
	for n := range 3 {
		d, kill := trackedWorker(t, url, cfg, 100)
		for _, item := range fetchAll(t.Context(), t, d, pick(n < 2, 2, 1)) {
			if item.Msg.UUID == "event-0001" {
				window.TrackerOf(item.Msg.Context()).Start()
			}
		}
		kill()
	}
	d, _ := trackedWorker(t, url, cfg, 100)
	outcome := map[string]string{}
	for _, item := range fetchAll(t.Context(), t, d, 2) {
		outcome[item.Msg.UUID] = item.Msg.Metadata.Get(window.MetadataPoisonClass)
	}
	require.Equal(t, map[string]string{"event-0001": "poison", "event-0002": ""}, outcome)
}

func pick(first bool, a, b int) int {
	if first {
		return a
	}
	return b
}

func publisherOf(t *testing.T, url string, cfg nats.Config) *nats.Publisher {
	t.Helper()
	conn := connect(t, url)
	topology(t, conn, cfg, 100)
	return publisher(t, conn, cfg)
}

func TestThreeRollingRestartsStrandNothingThatWasPrefetched(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.AckWaitSecs = 3600 // nothing comes after that
	_, err := publisherOf(t, url, cfg).PublishEvents(t.Context(), events(1, 200))
	require.NoError(t, err)
	for range 3 {
		d, _ := worker(t, url, cfg, 400)
		ctx, stop := context.WithCancel(t.Context())
		items, err := d.Fetch(ctx, 200) // the others are on the way
		require.NoError(t, err)
		stop()
		for _, item := range items {
			require.NoError(t, d.Nack(t.Context(), item, 0))
		}
		require.NoError(t, d.Close(t.Context()))
	}
	d, _ := worker(t, url, cfg, 400)
	items := fetchAll(t.Context(), t, d, 200)
	for _, item := range items {
		require.Empty(t, item.Msg.Metadata.Get(window.MetadataPoison))
	}
	require.NoError(t, d.Ack(t.Context(), items))
}

func TestARestartOfTheServerLosesNothing(t *testing.T) {
	t.Parallel()
	s, cfg := natsenv.Start(t, server.Options{}), config()
	cfg.JetStream.AckWaitSecs = 2
	pub := publisherOf(t, s.URL, cfg)
	d, _ := worker(t, s.URL, cfg, 20)
	var done sync.WaitGroup
	done.Go(func() {
		for i := range 50 {
			batch := events(i*10, 10)
			testenv.Eventually(t, 60*time.Second, func() error {
				_, err := pub.PublishEvents(t.Context(), batch)
				return err
			})
		}
	})
	seen := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	restarted := false
	for len(seen) < 500 {
		items, err := d.Fetch(ctx, 20)
		require.NoError(t, errors.Join(ctx.Err(), nil), "%d of 500 came", len(seen))
		if err != nil {
			continue
		}
		for _, item := range items {
			seen[item.Msg.UUID] = true
		}
		_ = d.Ack(ctx, items) // what the server did not read comes again
		if len(seen) >= 100 && !restarted {
			restarted = true
			s.Stop()
			s.Start()
		}
	}
	done.Wait()
}
