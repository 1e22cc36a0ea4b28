package nats_test

import (
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/nats"
)

func TestMain(m *testing.M) {
	testenv.Concurrent(4)
	goleak.VerifyTestMain(m)
}

func connect(t *testing.T, url string) *natsgo.Conn {
	t.Helper()
	conn, err := natsgo.Connect(url, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond), natsgo.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func config() nats.Config {
	return nats.Config{
		StreamName: "fraiseql_events", SubjectPrefix: "fraiseql.mutation", ConsumerName: "fraiseql_observer_worker",
		JetStream: nats.JetStream{
			DedupWindowMinutes: 5, Retention: "workqueue", MaxMsgs: 1_000_000, MaxBytes: 1 << 30, AckWaitSecs: 30, MaxDeliver: 3, Replicas: 1,
		},
	}
}
