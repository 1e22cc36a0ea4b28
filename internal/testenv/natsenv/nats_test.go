package natsenv_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachTestHasAJetStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		conn, err := nats.Connect(natsenv.JetStream(t))
		require.NoError(t, err)
		defer conn.Close()
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}})
		require.NoError(t, err)
		ack, err := js.Publish(t.Context(), "orders.1", nil)
		require.NoError(t, err)
		require.EqualValues(t, 1, ack.Sequence)
		info, err := stream.Info(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, info.State.Msgs)
	}
}

func TestAServerThatIsStartedAgainKeepsItsAddressAndItsData(t *testing.T) {
	t.Parallel()
	s := natsenv.Start(t, server.Options{})
	url := s.URL
	create(t, url)
	s.Stop()
	_, err := nats.Connect(url)
	require.ErrorIs(t, err, nats.ErrNoServers)
	s.Start()
	require.Equal(t, url, s.URL)
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	_, err = js.Stream(t.Context(), "orders")
	require.NoError(t, err)
}

func create(t *testing.T, url string) {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}})
	require.NoError(t, err)
}
