package nats_test

import (
	"os"
	"os/exec"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/nats"
)

func embedded(t *testing.T, dir string) (*nats.Embedded, *natsgo.Conn) {
	t.Helper()
	e, err := nats.StartEmbedded(nats.EmbeddedConfig{StoreDir: dir})
	require.NoError(t, err)
	conn, err := e.Connect(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	require.NoError(t, conn.Down())
	return e, conn.Conn
}

func TestTheEmbeddedServerKeepsItsDataAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, conn := embedded(t, dir)
	topology(t, conn, config(), 10)
	_, err := publisher(t, conn, config()).PublishEvents(t.Context(), events(1, 5))
	require.NoError(t, err)
	conn.Close()
	require.NoError(t, e.Close())

	e, conn = embedded(t, dir)
	d, err := nats.NewDriver(nats.DriverConfig{Topology: topology(t, conn, config(), 10)})
	require.NoError(t, err)
	require.NoError(t, d.Ack(t.Context(), fetchAll(t.Context(), t, d, 5)))
	require.NoError(t, d.Close(t.Context()))
	conn.Close()
	require.NoError(t, e.Close())
}

const embeddedDir = "NATS_TEST_EMBEDDED_DIR" // tells a child of this test which directory to use

func TestTwoProcessesOnOneDirectoryAreRefused(t *testing.T) {
	if dir := os.Getenv(embeddedDir); dir != "" {
		_, err := nats.StartEmbedded(nats.EmbeddedConfig{StoreDir: dir})
		require.ErrorContains(t, err, "another process uses it")
		return
	}
	t.Parallel()
	dir := t.TempDir()
	e, conn := embedded(t, dir)
	_, err := nats.StartEmbedded(nats.EmbeddedConfig{StoreDir: dir})
	require.ErrorContains(t, err, "another process uses it", "in one process as well")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTwoProcessesOnOneDirectoryAreRefused$", "-test.timeout=30s")
	child.Env = append(os.Environ(), embeddedDir+"="+dir)
	out, err := child.CombinedOutput()
	require.NoError(t, err, string(out))
	conn.Close()
	require.NoError(t, e.Close())
	e, conn = embedded(t, dir)
	conn.Close()
	require.NoError(t, e.Close())
}

// BenchmarkEmbeddedPublish measures what it costs that an ack means a write on the disk.
func BenchmarkEmbeddedPublish(b *testing.B) {
	for name, noSync := range map[string]bool{"synced": false, "unsynced": true} {
		b.Run(name, func(b *testing.B) {
			e, err := nats.StartEmbedded(nats.EmbeddedConfig{StoreDir: b.TempDir(), NoSync: noSync})
			require.NoError(b, err)
			conn, err := e.Connect(b.Context())
			require.NoError(b, err)
			_, err = nats.Setup(b.Context(), conn.Conn, conn, config(), 10)
			require.NoError(b, err)
			pub, err := nats.NewPublisher(nats.PublisherConfig{Conn: conn.Conn, Config: config()})
			require.NoError(b, err)
			n := 0
			for b.Loop() {
				_, err := pub.PublishEvents(b.Context(), events(n, 100))
				require.NoError(b, err)
				n += 100
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			require.NoError(b, pub.Close())
			conn.Close()
			require.NoError(b, e.Close())
		})
	}
}
