// Package natsenv runs a NATS server inside the test binary. It stands apart from testenv so that only the tests that
// need one link it.
package natsenv

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fraiseql/observer/internal/testenv"
)

const startTimeout = 30 * time.Second // on a busy machine

// Server is a server with JetStream that can be stopped and started again, with its data and at its address.
type Server struct {
	URL string

	tb      testing.TB
	options server.Options
	server  *server.Server
}

// JetStream starts a server with JetStream for one test and returns its URL. It listens on loopback only, and ends, with
// its data, when the test ends.
func JetStream(tb testing.TB) string {
	tb.Helper()
	return Start(tb, server.Options{}).URL
}

// Start starts such a server with options of the test's own, such as users and limits.
func Start(tb testing.TB, options server.Options) *Server {
	tb.Helper()
	options.Host, options.Port, options.JetStream, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, testenv.MemoryDir(tb)
	options.NoSigs, options.NoLog = true, true
	s := &Server{tb: tb, options: options}
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop.
func (s *Server) Start() {
	s.tb.Helper()
	options := s.options // a server changes its own
	started, err := server.NewServer(&options)
	if err != nil {
		s.tb.Fatalf("start NATS: %v", err)
	}
	s.server = started
	started.Start()
	if !started.ReadyForConnections(startTimeout) || !started.JetStreamEnabled() {
		s.tb.Fatalf("start NATS: no JetStream within %s", startTimeout)
	}
	s.URL, s.options.Port = started.ClientURL(), options.Port
}

// Stop ends the server; its data stays until the test ends.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
