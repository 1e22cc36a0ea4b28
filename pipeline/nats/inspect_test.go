package nats_test

import (
	"errors"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
)

// inspect returns what is said of each thing, by its name, and the errors.
func inspect(t *testing.T, conn *natsgo.Conn, cfg nats.Config) (said map[string]string, err error) {
	t.Helper()
	said = map[string]string{}
	for _, f := range nats.Inspect(t.Context(), conn, nil, cfg) {
		require.False(t, f.Detail != "" && f.Err != nil, "%+v", f)
		said[f.Name], err = f.Detail, errors.Join(err, f.Err)
	}
	return said, err
}

func TestInspectTellsWhatIsThereAndMakesNothing(t *testing.T) {
	t.Parallel()
	conn, cfg := connect(t, natsenv.JetStream(t)), config()
	said, err := inspect(t, conn, cfg)
	require.NoError(t, err)
	require.Regexp(t, `^answers, 2\.\d+\.\d+ with JetStream$`, said["nats"])
	require.Equal(t, "fraiseql_events is missing; run creates it, with its consumer", said["stream"])
	require.NotContains(t, said, "consumer")
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	_, err = js.Stream(t.Context(), cfg.StreamName)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)

	topology(t, conn, cfg, 10)
	_, err = publisher(t, conn, cfg).PublishEvents(t.Context(), events(1, 3))
	require.NoError(t, err)
	said, err = inspect(t, conn, cfg)
	require.NoError(t, err)
	require.Equal(t, "fraiseql_events: 3 events", said["stream"])
	require.Equal(t, "fraiseql_observer_worker: 3 events wait, 0 are in work", said["consumer"])

	cfg.JetStream.MaxMsgs++
	said, err = inspect(t, conn, cfg)
	require.NoError(t, err)
	require.Contains(t, said["stream"], "run changes them to those of the configuration")
	stream, err := js.Stream(t.Context(), cfg.StreamName)
	require.NoError(t, err)
	require.Equal(t, cfg.JetStream.MaxMsgs-1, stream.CachedInfo().Config.MaxMsgs)
	require.NoError(t, stream.DeleteConsumer(t.Context(), cfg.ConsumerName))
	said, err = inspect(t, conn, cfg)
	require.NoError(t, err)
	require.Equal(t, "fraiseql_observer_worker is missing; run creates it", said["consumer"])
}

func TestInspectNamesTheOtherReaderOfAWorkQueue(t *testing.T) {
	t.Parallel()
	conn, cfg := connect(t, natsenv.JetStream(t)), config()
	topology(t, conn, cfg, 10)
	cfg.ConsumerName = "another"
	_, err := inspect(t, conn, cfg)
	require.ErrorContains(t, err, "another: conflict: fraiseql_observer_worker is there: another consumer reads these events")
	_, refused := nats.Setup(t.Context(), conn, nil, cfg, 10)
	require.ErrorContains(t, refused, "another consumer reads these events")
}
