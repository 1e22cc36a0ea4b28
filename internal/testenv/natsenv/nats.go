// Package natsenv runs a NATS server inside the test binary. It stands apart from testenv so that only the tests that
// need one link it.
package natsenv

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const startTimeout = 30 * time.Second // on a busy machine

// JetStream starts a server with JetStream for one test and returns its URL. It listens on loopback only, and ends, with
// its data, when the test ends.
func JetStream(tb testing.TB) string {
	tb.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: tb.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		tb.Fatalf("start NATS: %v", err)
	}
	tb.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	s.Start()
	if !s.ReadyForConnections(startTimeout) || !s.JetStreamEnabled() {
		tb.Fatalf("start NATS: no JetStream within %s", startTimeout)
	}
	return s.ClientURL()
}
