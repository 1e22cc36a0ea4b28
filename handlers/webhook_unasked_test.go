package handlers_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

// stutterer takes the first request of its first connection and refuses all others. Once told, it says on that connection a
// second time that it has taken something.
func stutterer(t *testing.T, again <-chan struct{}) (address string) {
	t.Helper()
	const taken, refused = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		running.Wait()
	})
	running.Go(func() {
		for first := true; ; first = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				in, answer := bufio.NewReader(conn), refused
				if first {
					answer = taken
				}
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body) // the next request does not come without it
					_, _ = io.WriteString(conn, answer)  // the client may be gone
					if answer == taken {
						<-again
						_, _ = io.WriteString(conn, taken)
						answer = refused
					}
				}
			})
		}
	})
	return listener.Addr().String()
}

// A webhook that its receiver refuses and that counts as delivered is a lost event.
func TestARefusedWebhookIsNotAcknowledgedByTheAnswerToAnother(t *testing.T) {
	t.Parallel()
	again := make(chan struct{})
	address := stutterer(t, again)
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: 4})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	connections := make(chan net.Conn, 10)
	h.WatchConnections(func(c net.Conn) { connections <- c })
	action, err := handlers.NewWebhook(&handlers.WebhookConfig{URL: secret.String("http://" + address)}, handlers.Env{HTTP: h, Timeout: time.Minute})
	require.NoError(t, err)
	require.NoError(t, action.Run(t.Context(), delivery(`{}`)), "the receiver took it")
	close(again)
	testenv.Arrived(t, (<-connections).(syscall.Conn))
	for i := range 5 {
		d := delivery(`{}`)
		d.Event.ID = strconv.Itoa(i)
		err := action.Run(t.Context(), d)
		require.Error(t, err, "the receiver refused it")
		require.Equal(t, "http_500", event.Class(err))
	}
}
