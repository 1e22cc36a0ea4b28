package nats_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
)

func TestSetupChangesWhatCanBeChangedAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	conn, cfg := connect(t, natsenv.JetStream(t)), config()
	js := topology(t, conn, cfg, 10).JS
	before, err := js.Stream(t.Context(), cfg.StreamName)
	require.NoError(t, err)
	has := before.CachedInfo().Config
	require.Equal(t, []string{"fraiseql.mutation.>"}, has.Subjects)
	require.Equal(t, jetstream.WorkQueuePolicy, has.Retention)
	require.Equal(t, jetstream.DiscardNew, has.Discard)
	require.Equal(t, 5*time.Minute, has.Duplicates)
	has.Compression = jetstream.S2Compression // an operator's doing
	_, err = js.UpdateStream(t.Context(), has)
	require.NoError(t, err)

	cfg.JetStream.MaxMsgs, cfg.JetStream.MaxAgeDays, cfg.JetStream.AckWaitSecs = 77, 2, 7
	topology(t, conn, cfg, 20)
	after, err := js.Stream(t.Context(), cfg.StreamName)
	require.NoError(t, err)
	has = after.CachedInfo().Config
	require.EqualValues(t, 77, has.MaxMsgs)
	require.Equal(t, 48*time.Hour, has.MaxAge)
	require.Equal(t, jetstream.S2Compression, has.Compression)
	consumer, err := js.Consumer(t.Context(), cfg.StreamName, cfg.ConsumerName)
	require.NoError(t, err)
	require.Equal(t, 7*time.Second, consumer.CachedInfo().Config.AckWait)
	require.Equal(t, 20, consumer.CachedInfo().Config.MaxAckPending)
	require.Equal(t, -1, consumer.CachedInfo().Config.MaxDeliver)
}

func TestWithInterestEveryGroupGetsWhatIsPublishedAfterSetup(t *testing.T) {
	t.Parallel()
	url, cfg := natsenv.JetStream(t), config()
	cfg.JetStream.Retention, cfg.JetStream.Groups = "interest", []string{cfg.ConsumerName, "audit"}
	_, err := publisherOf(t, url, cfg).PublishEvents(t.Context(), events(1, 3))
	require.NoError(t, err)
	for _, group := range cfg.JetStream.Groups {
		d, err := nats.NewDriver(nats.DriverConfig{Topology: topology(t, connect(t, url), cfg, 10), Group: group})
		require.NoError(t, err)
		require.NoError(t, d.Ack(t.Context(), fetchAll(t.Context(), t, d, 3)))
		require.NoError(t, d.Close(t.Context()))
	}
}

func TestSetupSaysWhatToChange(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stream jetstream.StreamConfig
		change func(*nats.Config)
		limits *server.Options
		want   string
	}{
		"a stream of that name with other subjects": {
			stream: jetstream.StreamConfig{Name: "fraiseql_events", Subjects: []string{"other.>"}, Retention: jetstream.WorkQueuePolicy},
			want:   "takes the subjects other.>, not fraiseql.mutation.>",
		},
		"a stream of that name with another retention": {
			stream: jetstream.StreamConfig{Name: "fraiseql_events", Subjects: []string{"fraiseql.mutation.>"}},
			want:   "choose another transport.nats.stream_name",
		},
		"a stream of that name in memory": {
			stream: jetstream.StreamConfig{Name: "fraiseql_events", Subjects: []string{"fraiseql.mutation.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage},
			want:   "is in Memory, not in File storage",
		},
		"another stream that takes the subjects": {
			stream: jetstream.StreamConfig{Name: "other", Subjects: []string{"fraiseql.>"}},
			want:   "choose another transport.nats.subject_prefix",
		},
		"replicas without a cluster": {
			change: func(c *nats.Config) { c.JetStream.Replicas = 3 },
			want:   "set transport.nats.jetstream.replicas = 1",
		},
		"more bytes than the server has": {
			limits: &server.Options{JetStreamMaxStore: 1 << 20, JetStreamMaxMemory: 1 << 20},
			want:   "lower transport.nats.jetstream.max_bytes",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.limits == nil {
				test.limits = &server.Options{}
			}
			conn, cfg := connect(t, natsenv.Start(t, *test.limits).URL), config()
			if test.stream.Name != "" {
				js, err := jetstream.New(conn)
				require.NoError(t, err)
				_, err = js.CreateStream(t.Context(), test.stream)
				require.NoError(t, err)
			}
			if test.change != nil {
				test.change(&cfg)
			}
			if test.limits.JetStreamMaxStore == 0 { // of a limit one is told when it is hit
				_, err := inspect(t, conn, cfg)
				require.ErrorContains(t, err, test.want)
			}
			_, err := nats.Setup(t.Context(), conn, nil, cfg, 10)
			require.ErrorContains(t, err, test.want)
			require.True(t, nats.IsFatal(err), err)
		})
	}
}

func TestWorkersThatStartTogetherShareTheRoomForOneStream(t *testing.T) {
	t.Parallel()
	url := natsenv.Start(t, server.Options{JetStreamMaxStore: 3 << 29, JetStreamMaxMemory: 1 << 20}).URL // one and a half streams
	var workers errgroup.Group
	for range 16 {
		conn := connect(t, url)
		workers.Go(func() error {
			_, err := nats.Setup(t.Context(), conn, nil, config(), 10)
			return err
		})
	}
	require.NoError(t, workers.Wait())
}

func TestAServerWithoutJetStreamIsRefused(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(30*time.Second))
	_, err = nats.Setup(t.Context(), connect(t, s.ClientURL()), nil, config(), 10)
	require.ErrorContains(t, err, "start nats-server with JetStream")
	require.True(t, nats.IsFatal(err))
	_, err = inspect(t, connect(t, s.ClientURL()), config())
	require.ErrorContains(t, err, "start nats-server with JetStream")
}

func TestAMissingRightIsToldApartFromAServerThatIsAway(t *testing.T) {
	t.Parallel()
	user := &server.User{Username: "app", Password: "s3cret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.>"}}}}
	s := natsenv.Start(t, server.Options{Users: []*server.User{user}})
	conn, err := natsconn.Open(t.Context(), natsconn.Config{URL: secret.String("nats://app:s3cret@" + s.URL[len("nats://"):])})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = nats.Setup(ctx, conn.Conn, conn, config(), 10)
	require.ErrorIs(t, err, nats.ErrDenied)
	require.True(t, nats.IsFatal(err))

	s.Stop()
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = nats.Setup(ctx, conn.Conn, conn, config(), 10)
	require.Error(t, err)
	require.False(t, nats.IsFatal(err), err)
}
