package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
)

// within is how long a test waits for what takes a lease and an ack wait on a busy machine.
const within = 60 * time.Second

func quick(partitions int) nats.Config {
	cfg := partitioned(partitions)
	cfg.JetStream.AckWaitSecs = 2
	return cfg
}

// starts notes in which order events begin, over all workers.
type starts struct {
	mu   sync.Mutex
	list []*event.Event
	seen map[string]bool
}

func (s *starts) note(e *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	if !s.seen[e.ID] { // what comes again is out of order by itself
		s.seen[e.ID] = true
		s.list = append(s.list, e)
	}
}

func (s *starts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// requireOrder checks that the events of each entity began in their order.
func (s *starts) requireOrder(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[string]int64{}
	for _, e := range s.list {
		require.Greater(t, e.Seq, last[e.EntityID], "of entity %s", e.EntityID)
		last[e.EntityID] = e.Seq
	}
}

// pages is a log that a test reads while it is written.
type pages struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

func (p *pages) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *pages) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// crew is a worker that handles what it gets, one event after the other.
type crew struct {
	*nats.Group

	log     *pages
	conn    *natsgo.Conn
	stop    context.CancelFunc
	ended   chan struct{}
	dead    atomic.Bool
	handled atomic.Int64
}

// hire starts a worker; it ends with the test, unless it did before.
func hire(t *testing.T, url string, cfg nats.Config, s *starts) *crew {
	t.Helper()
	conn := connect(t, url)
	log := &pages{}
	group, err := nats.OpenGroup(t.Context(), nats.GroupConfig{Topology: topology(t, conn, cfg, 1000), Log: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &crew{Group: group, log: log, conn: conn, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.work(ctx, s)
	}()
	t.Cleanup(func() {
		stop()
		<-c.ended
		_ = c.Close(context.WithoutCancel(t.Context())) // its connection may be gone
	})
	return c
}

func (c *crew) work(ctx context.Context, s *starts) {
	for ctx.Err() == nil {
		items, err := c.Fetch(ctx, 20)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		for _, item := range items {
			c.handle(ctx, s, item)
		}
	}
}

// handle does what dispatch does: it starts what it may, and gives the rest back.
func (c *crew) handle(ctx context.Context, s *starts, item window.Item) {
	for !c.Held() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	if c.dead.Load() {
		return
	}
	if ctx.Err() != nil || window.RevokedOf(item.Msg.Context()).Load() {
		_ = c.Nack(ctx, item, 0)
		return
	}
	s.note(event.OfContext(item.Msg.Context()))
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
	}
	if !c.dead.Load() {
		_ = c.Ack(ctx, []window.Item{item})
		c.handled.Add(1)
	}
}

// leaves ends the worker as SIGTERM does.
func (c *crew) leaves(t *testing.T) {
	t.Helper()
	c.stop()
	<-c.ended
	require.NoError(t, c.Close(t.Context()))
}

// dies ends the worker as SIGKILL does.
func (c *crew) dies() {
	c.dead.Store(true)
	c.conn.Close()
	c.stop()
	<-c.ended
}

// shared waits until each of the workers has its share and they have all partitions.
func shared(t *testing.T, partitions int, workers ...*crew) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		var all []int
		for _, w := range workers {
			own := w.Owned()
			if len(own) < partitions/len(workers) {
				return fmt.Errorf("a worker has %v", own)
			}
			all = append(all, own...)
		}
		slices.Sort(all)
		if len(all) != partitions || len(slices.Compact(all)) != partitions {
			return fmt.Errorf("owned are %v", all)
		}
		return nil
	})
}

// publishes publishes events about some entities, a few at a time, until stop closes.
func publishes(t *testing.T, url string, cfg nats.Config, entities int) (stop func() (published int)) {
	t.Helper()
	pub := publisherOf(t, url, cfg)
	quit, ended, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(ended)
		for {
			batch := about(entities, n+entities)[n:]
			testenv.Eventually(t, within, func() error { _, err := pub.PublishEvents(context.WithoutCancel(t.Context()), batch); return err })
			n += len(batch)
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() int { close(quit); <-ended; return n }
}

func TestWorkersThatJoinAndLeaveShareThePartitionsAtOnce(t *testing.T) {
	t.Parallel()
	url, cfg, s := natsenv.JetStream(t), quick(12), &starts{}
	one := hire(t, url, cfg, s)
	shared(t, 12, one)
	two := hire(t, url, cfg, s)
	shared(t, 12, one, two)
	three := hire(t, url, cfg, s)
	shared(t, 12, one, two, three)
	two.leaves(t)
	shared(t, 12, one, three)
	for _, w := range []*crew{one, three} {
		require.NotContains(t, w.log.String(), "a worker of this consumer has died", "nobody waits for a lease that was given back")
	}
	select {
	case <-one.Lost():
		t.Fatal("one was taken for dead")
	default:
	}
}

func TestOrderHoldsWhileWorkersJoinLeaveAndDie(t *testing.T) {
	t.Parallel()
	url, cfg, s := natsenv.JetStream(t), quick(12), &starts{}
	stop := publishes(t, url, cfg, 30)
	one, two := hire(t, url, cfg, s), hire(t, url, cfg, s)
	shared(t, 12, one, two)
	three := hire(t, url, cfg, s)
	shared(t, 12, one, two, three)
	two.leaves(t)
	shared(t, 12, one, three)
	one.dies()
	shared(t, 12, three)
	four := hire(t, url, cfg, s)
	shared(t, 12, three, four)
	before := four.handled.Load()
	testenv.Eventually(t, within, func() error {
		if four.handled.Load() < before+50 {
			return errors.New("the new one handles nothing")
		}
		return nil
	})
	published := stop()
	testenv.Eventually(t, within, func() error {
		if n := s.count(); n != published {
			return fmt.Errorf("%d of %d began", n, published)
		}
		return nil
	})
	s.requireOrder(t)
	left(t, url, cfg, 0)
}

// TestDeletedConsumersOfPartitionsAreUsedAgain deletes them while events are handed out, and makes them again as the program does.
func TestDeletedConsumersOfPartitionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	url, cfg, s := natsenv.JetStream(t), quick(2), &starts{}
	stop := publishes(t, url, cfg, 10)
	one := hire(t, url, cfg, s)
	shared(t, 2, one)
	top := topology(t, connect(t, url), cfg, 1000)
	for range 2 {
		before := one.handled.Load()
		testenv.Eventually(t, within, func() error {
			if n := one.handled.Load() - before; n < 200 {
				return fmt.Errorf("%d of 200 are handled", n)
			}
			return nil
		})
		for k := range 2 {
			require.NoError(t, top.JS.DeleteConsumer(t.Context(), cfg.StreamName, fmt.Sprintf("%s-2-%d", cfg.ConsumerName, k)))
		}
		testenv.Eventually(t, within, func() error { return top.Restore(t.Context(), slog.New(slog.DiscardHandler)) }) // the server may still be deleting
	}
	published := stop()
	testenv.Eventually(t, within, func() error {
		if n := s.count(); n != published {
			return fmt.Errorf("%d of %d began", n, published)
		}
		return nil
	})
	left(t, url, cfg, 0)
	s.requireOrder(t)
}

// TestWhatADeadWorkerHadInHandComesBeforeWhatIsNewer has events delivered, and more published, before the worker dies.
func TestWhatADeadWorkerHadInHandComesBeforeWhatIsNewer(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), quick(2)
	pub := publisherOf(t, url, cfg)
	conn := connect(t, url)
	dying, err := nats.OpenGroup(t.Context(), nats.GroupConfig{Topology: topology(t, conn, cfg, 10)})
	require.NoError(t, err)
	_, err = pub.PublishEvents(t.Context(), about(1, 10))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var items []window.Item
	for len(items) < 10 {
		more, err := dying.Fetch(ctx, 10-len(items))
		require.NoError(t, err)
		items = append(items, more...)
	}
	require.NoError(t, dying.Ack(t.Context(), []window.Item{items[0], items[4]}))
	left(t, url, cfg, 8)
	conn.Close()
	stop()
	t.Cleanup(func() { _ = dying.Close(context.WithoutCancel(t.Context())) })
	_, err = pub.PublishEvents(t.Context(), about(1, 20)[10:])
	require.NoError(t, err)

	s := &starts{}
	hire(t, url, cfg, s)
	testenv.Eventually(t, within, func() error {
		if n := s.count(); n != 18 {
			return fmt.Errorf("%d of 18 began", n)
		}
		return nil
	})
	s.requireOrder(t)
}

func TestAWorkerThatCannotRenewStopsBeforeAnotherHasItsPartitions(t *testing.T) {
	t.Parallel()
	url, cfg, s := natsenv.JetStream(t), quick(4), &starts{}
	stop := publishes(t, url, cfg, 10)
	one, two := hire(t, url, cfg, s), hire(t, url, cfg, s)
	shared(t, 4, one, two)
	one.Suspend(true)
	testenv.Eventually(t, within, func() error {
		if n := len(two.Owned()); n < 4 {
			return fmt.Errorf("the other has %d", n)
		}
		return nil
	})
	require.False(t, one.Held())
	one.Suspend(false)
	select {
	case <-one.Lost():
	case <-time.After(within):
		t.Fatal("it does not know that it was taken for dead")
	}
	require.False(t, one.Held(), "for good")
	one.leaves(t)
	published := stop()
	testenv.Eventually(t, within, func() error {
		if n := s.count(); n != published {
			return fmt.Errorf("%d of %d began", n, published)
		}
		return nil
	})
	s.requireOrder(t)
	shared(t, 4, two)
}

// single is a worker with one partition, whose events the test settles.
func single(t *testing.T) (g *nats.Group, url string, pub *nats.Publisher) {
	t.Helper()
	url = natsenv.JetStream(t)
	cfg := quick(1)
	g, err := nats.OpenGroup(t.Context(), nats.GroupConfig{Topology: topology(t, connect(t, url), cfg, 10)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Close(context.WithoutCancel(t.Context())) })
	return g, url, publisherOf(t, url, cfg)
}

// comes checks that events come in this order.
func comes(ctx context.Context, t *testing.T, g *nats.Group, want ...string) {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		items, err := g.Fetch(ctx, len(want)-len(got))
		require.NoError(t, err)
		for _, item := range items {
			got = append(got, item.Msg.UUID)
		}
	}
	require.Equal(t, want, got)
}

func TestWhatIsGivenBackComesBeforeWhatIsNewer(t *testing.T) {
	t.Parallel()
	g, _, pub := single(t)
	_, err := pub.PublishEvents(t.Context(), events(1, 5))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var items []window.Item
	for len(items) < 3 {
		more, err := g.Fetch(ctx, 3-len(items))
		require.NoError(t, err)
		items = append(items, more...)
	}
	require.NoError(t, g.Nack(t.Context(), items[2], time.Second))
	require.NoError(t, g.Nack(t.Context(), items[0], 1500*time.Millisecond))
	comes(ctx, t, g, "event-0001", "event-0003", "event-0004", "event-0005")
}

// TestWhatWasLostOnTheWayComesBeforeWhatIsNewer lets the server deliver an event to somebody else.
func TestWhatWasLostOnTheWayComesBeforeWhatIsNewer(t *testing.T) {
	t.Parallel()
	g, url, pub := single(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	_, err := pub.PublishEvents(t.Context(), events(1, 1))
	require.NoError(t, err)
	comes(ctx, t, g, "event-0001")

	js, err := jetstream.New(connect(t, url))
	require.NoError(t, err)
	consumer, err := js.Consumer(t.Context(), "fraiseql_events", "fraiseql_observer_worker-1-0")
	require.NoError(t, err)
	stolen := make(chan string)
	go func() {
		batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(within))
		if err == nil {
			for msg := range batch.Messages() {
				stolen <- msg.Headers().Get(jetstream.MsgIDHeader)
			}
		}
		close(stolen)
	}()
	next, id := 2, ""
	for id == "" { // the two take turns
		_, err = pub.PublishEvents(t.Context(), events(next, 1))
		require.NoError(t, err)
		next++
		select {
		case id = <-stolen:
		case <-time.After(50 * time.Millisecond):
		}
	}
	_, err = pub.PublishEvents(t.Context(), events(next, 5))
	require.NoError(t, err)
	var want []string
	for _, e := range events(2, next+3) {
		want = append(want, e.ID)
	}
	require.Contains(t, want, id)
	comes(ctx, t, g, want...)
}
