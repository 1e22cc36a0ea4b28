package nats_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
)

// partitioned is the configuration of a stream with n partitions.
func partitioned(n int) nats.Config {
	cfg := config()
	cfg.JetStream.Partitions = n
	return cfg
}

// about is n events, in turn of each of the entities.
func about(entities, n int) []*event.Event {
	list := events(1, n)
	for i, e := range list {
		e.EntityID = strconv.Itoa(i % entities)
	}
	return list
}

func TestEventsOfOneEntityAreInOnePartition(t *testing.T) {
	t.Parallel()
	conn, cfg := connect(t, natsenv.JetStream(t)), partitioned(12)
	top := topology(t, conn, cfg, 10)
	subjects := map[string]bool{}
	for _, e := range about(100, 100) {
		insert := top.Subject(e)
		subjects[insert] = true
		e.Type, e.ID = event.Update, "another"
		require.Regexp(t, `^fraiseql\.mutation\.Order=2ELine\.UPDATE\.12\.\d+$`, top.Subject(e))
		require.Equal(t, insert[len("fraiseql.mutation.Order=2ELine.INSERT"):], top.Subject(e)[len("fraiseql.mutation.Order=2ELine.UPDATE"):])
	}
	require.Len(t, subjects, 12, "all partitions are used")
	subjects = map[string]bool{}
	for _, e := range events(1, 100) {
		e.EntityID = ""
		subjects[top.Subject(e)] = true
	}
	require.Len(t, subjects, 12, "what is about no entity is not all in one")
}

func TestTheNumberOfPartitionsChangesOnceTheStreamIsEmpty(t *testing.T) {
	t.Parallel()
	for name, retention := range map[string]string{"a work queue": "workqueue", "a stream with groups": "interest"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natsenv.JetStream(t)
			for i, from := range []int{0, 12, 6} {
				before, after := partitioned(from), partitioned([]int{12, 6, 0}[i])
				before.JetStream.Retention, after.JetStream.Retention = retention, retention
				top := topology(t, connect(t, url), before, 10)
				old := publisher(t, connect(t, url), before)
				list := events(i*10, 1)
				_, err := old.PublishEvents(t.Context(), list)
				require.NoError(t, err)

				_, err = inspect(t, connect(t, url), after)
				require.ErrorContains(t, err, fmt.Sprintf("it has %d partitions and 1 events", from))
				_, err = nats.Setup(t.Context(), connect(t, url), nil, after, 10)
				require.ErrorIs(t, err, nats.ErrConflict)
				require.True(t, nats.IsFatal(err))

				stream, err := top.JS.Stream(t.Context(), before.StreamName)
				require.NoError(t, err)
				require.NoError(t, stream.Purge(t.Context()))
				_, err = inspect(t, connect(t, url), after)
				require.NoError(t, err)
				next := topology(t, connect(t, url), after, 10)
				info, err := stream.Info(t.Context())
				require.NoError(t, err)
				require.Equal(t, max(after.JetStream.Partitions, 1), info.State.Consumers, "and no other")
				if after.JetStream.Partitions > 0 {
					_, err = old.PublishEvents(t.Context(), events(i*10+5, 1))
					require.ErrorIs(t, err, jetstream.ErrNoStreamResponse, "a publisher of the old number is refused")
				}
				_, err = top.Consumer(t.Context(), before.ConsumerName, nats.AllTopics)
				require.ErrorIs(t, err, nats.ErrConflict, "and so is a worker")
				_, err = publisher(t, connect(t, url), after).PublishEvents(t.Context(), events(i*10+6, 1))
				require.NoError(t, err)
				testenv.Eventually(t, within, func() error { // the server counts a moment later
					lag, err := next.Lag(t.Context())
					if err == nil && lag.Pending != 1 {
						err = fmt.Errorf("%d are pending", lag.Pending)
					}
					return err
				})
				require.NoError(t, stream.Purge(t.Context()))
			}
		})
	}
}
