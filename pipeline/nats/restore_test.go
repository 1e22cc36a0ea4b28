package nats_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
)

func TestWhatSomebodyDeletesIsMadeAgain(t *testing.T) {
	t.Parallel()
	conn, cfg := connect(t, natsenv.JetStream(t)), config()
	top := topology(t, conn, cfg, 10)
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	queue, err := nats.OpenRetryQueue(t.Context(), top.JS, nats.RetryQueueConfig{
		Stream: cfg.StreamName, Consumer: cfg.ConsumerName, AckWait: 30 * time.Second, MaxDeliver: 3, Log: log,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, queue.Close(context.WithoutCancel(t.Context()))) })
	dead, err := nats.OpenDeadLetters(t.Context(), top.JS, nats.DeadLettersConfig{Stream: cfg.StreamName, Consumer: cfg.ConsumerName})
	require.NoError(t, err)
	restore := func() string {
		text.Reset()
		require.NoError(t, top.Restore(t.Context(), log))
		require.NoError(t, dead.Restore(t.Context(), log))
		require.NoError(t, queue.Restore(t.Context()))
		return text.String()
	}
	require.Empty(t, restore(), "all of it is there")

	require.NoError(t, top.JS.DeleteConsumer(t.Context(), cfg.StreamName, cfg.ConsumerName))
	require.NoError(t, top.JS.DeleteConsumer(t.Context(), "fraiseql_events_retries", cfg.ConsumerName))
	require.Regexp(t, `(?s)level=WARN.*consumer=fraiseql_observer_worker\n.*consumer=fraiseql_observer_worker\n$`, restore())
	for _, name := range []string{"fraiseql_events", "fraiseql_events_retries", "fraiseql_events_dead_letters"} {
		require.NoError(t, top.JS.DeleteStream(t.Context(), name))
		require.Regexp(t, `level=WARN .* stream=`+name+`\n`, restore())
	}
	require.NoError(t, top.JS.DeleteKeyValue(t.Context(), "fraiseql_events_starts"))
	require.Regexp(t, `level=WARN .* bucket=fraiseql_events_starts\n`, restore())
	require.Empty(t, restore())

	d := &event.Delivery{Event: events(1, 1)[0], Observer: "all", Action: "tell"}
	require.NoError(t, queue.Park(t.Context(), d, time.Now()))
	items, err := queue.Fetch(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.NoError(t, queue.Ack(t.Context(), items))
	require.NoError(t, dead.Put(t.Context(), d))
}

func TestAnAckOfADeletedStreamHitsNoEventOfTheNextOne(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*nats.Topology) error{
		"made again while we run":  func(top *nats.Topology) error { return top.Restore(t.Context(), slog.New(slog.DiscardHandler)) },
		"made again by a newcomer": func(*nats.Topology) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, cfg := natsenv.JetStream(t), config()
			conn := connect(t, url)
			top := topology(t, conn, cfg, 100)
			pub := publisher(t, conn, cfg)
			_, err := pub.PublishEvents(t.Context(), events(1, 5))
			require.NoError(t, err)
			d, err := nats.NewDriver(nats.DriverConfig{Topology: top})
			require.NoError(t, err)
			old := fetchAll(t.Context(), t, d, 5)
			require.NoError(t, top.JS.DeleteStream(t.Context(), cfg.StreamName))
			require.NoError(t, again(top))
			topology(t, conn, cfg, 100)
			_, err = pub.PublishEvents(t.Context(), events(1, 5))
			require.NoError(t, err)
			other, _ := worker(t, url, cfg, 100)
			items := fetchAll(t.Context(), t, other, 5)
			require.NoError(t, d.Ack(t.Context(), old))
			require.NoError(t, d.Close(t.Context()))
			require.EqualValues(t, 5, waiting(t, url, cfg))
			require.NoError(t, other.Ack(t.Context(), items))
			require.NoError(t, other.Close(t.Context()))
			require.Zero(t, waiting(t, url, cfg))
		})
	}
}
