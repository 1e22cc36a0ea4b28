package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// natsStream creates a stream that takes orders.> .
func natsStream(t *testing.T, url string, change ...func(*jetstream.StreamConfig)) jetstream.Stream {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	cfg := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}
	for _, f := range change {
		f(&cfg)
	}
	stream, err := js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	return stream
}

func natsAction(t *testing.T, url, topic, body string) handlers.Action {
	t.Helper()
	env := serversEnv(t, handlers.ServersConfig{NATS: natsConfig(url)})
	return publishAction(t, env, handlers.PublishConfig{Topic: topic, BodyTemplate: body})
}

func stored(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	return info.State.Msgs
}

func TestPublishIsReadByAStockNATSSubscriber(t *testing.T) {
	t.Parallel()
	for name, test := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natsenv.JetStream(t)
			stream := natsStream(t, url)
			d := delivery(nastyRow)
			require.NoError(t, inTime(t, natsAction(t, url, "orders.shipped", test.template), d))
			raw, err := stream.GetMsg(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, d.ID(), raw.Header.Get(nats.MsgIdHdr))

			subscriber, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{
				URL: url, JetStream: wmnats.JetStreamConfig{SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()}},
			}, nil)
			require.NoError(t, err)
			want := test.want
			if want == "" {
				want = string(d.Event.JSON())
			}
			requireMessage(t, receive(t, subscriber, "orders.shipped"), d, want)
		})
	}
}

func TestPublishAgainIsRecognisedByTheStream(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	stream := natsStream(t, url)
	action := natsAction(t, url, "orders.shipped", "")
	for range 3 {
		require.NoError(t, inTime(t, action, delivery(`{}`)))
	}
	require.NoError(t, inTime(t, action, orderOf("another", `{}`)))
	require.EqualValues(t, 2, stored(t, stream))
}

func TestPublishHeadersHoldNoLineOfTheRow(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	stream := natsStream(t, url)
	d := delivery(`{}`)
	d.Event.Entity = "Order\r\nNats-Rollup: all\r\nü"
	require.NoError(t, inTime(t, natsAction(t, url, "orders.shipped", ""), d))
	raw, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Empty(t, raw.Header.Get("Nats-Rollup"))
	require.Contains(t, raw.Header.Get("entity_type"), "Nats-Rollup: all")
}

func TestPublishOutcomesOfJetStream(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stream    func(*jetstream.StreamConfig)
		subject   string
		class     string
		text      string
		permanent bool
	}{
		"no stream takes the subject": {subject: "invoices.paid", class: "no_stream", text: "publish to NATS subject invoices.paid: no stream takes invoices.paid: create one"},
		"the stream is full": {
			stream: func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1, jetstream.DiscardNew },
			class:  "nats_10077", text: "maximum messages exceeded",
		},
		"the stream takes no message of this size": {
			stream: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 200 },
			class:  "too_large", text: "larger than the server or the stream allows", permanent: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := natsenv.JetStream(t)
			if test.stream == nil {
				test.stream = func(*jetstream.StreamConfig) {}
			}
			natsStream(t, url, test.stream)
			conn, err := nats.Connect(url)
			require.NoError(t, err)
			defer conn.Close()
			js, err := jetstream.New(conn)
			require.NoError(t, err)
			_, err = js.Publish(t.Context(), "orders.first", nil)
			require.NoError(t, err)
			if test.subject == "" {
				test.subject = "orders.shipped"
			}
			err = inTime(t, natsAction(t, url, test.subject, ""), delivery(nastyRow))
			require.ErrorContains(t, err, test.text)
			require.Equal(t, test.class, event.Class(err))
			require.Equal(t, test.permanent, event.IsPermanent(err))
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestPublishBeyondTheServersLimitIsPermanent(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	natsStream(t, url)
	action := natsAction(t, url, "orders.shipped", "")
	require.NoError(t, inTime(t, action, delivery(`{}`)))
	err := inTime(t, action, delivery(`{"x":"`+strings.Repeat("x", 1<<20)+`"}`))
	require.True(t, event.IsPermanent(err))
	require.Equal(t, "too_large", event.Class(err))
	require.Less(t, len(err.Error()), 200)
}

func TestPublishCheckNamesTheStream(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	natsStream(t, url)
	detail, err := natsAction(t, url, "orders.shipped", "").(handlers.Checker).Check(t.Context())
	require.NoError(t, err)
	require.Equal(t, "stream ORDERS takes orders.shipped", detail)
	_, err = natsAction(t, url, "invoices.paid", "").(handlers.Checker).Check(t.Context())
	require.ErrorContains(t, err, "no stream takes invoices.paid: create one")
	_, err = natsAction(t, natsAway, "orders.shipped", "").(handlers.Checker).Check(t.Context())
	require.ErrorContains(t, err, "connection refused")
}

// natsServer runs a server that a test stops and starts again where it was.
type natsServer struct {
	options server.Options
	running *server.Server
}

func newNATSServer(t *testing.T, options server.Options) *natsServer {
	t.Helper()
	options.Host, options.Port, options.NoSigs, options.NoLog = "127.0.0.1", lowPort(t, 22000), true, true
	options.JetStream, options.StoreDir = true, t.TempDir()
	s := &natsServer{options: options}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// lowPort returns a free port of the two thousand from first on. They are below those that kernels hand out, so that it stays
// free while its server is stopped.
func lowPort(t *testing.T, first int) int {
	t.Helper()
	for range 20 {
		port := first + rand.IntN(2000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			require.NoError(t, listener.Close())
			return port
		}
	}
	require.FailNow(t, "no port is free")
	return 0
}

func (s *natsServer) start(t *testing.T) {
	t.Helper()
	options := s.options
	var err error
	s.running, err = server.NewServer(&options)
	require.NoError(t, err)
	s.running.Start()
	require.True(t, s.running.ReadyForConnections(30*time.Second))
}

func (s *natsServer) stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

func (s *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.options.Port) }

func TestPublishOutlivesItsNATSServer(t *testing.T) {
	t.Parallel()
	s := newNATSServer(t, server.Options{})
	natsStream(t, s.url())
	action := natsAction(t, s.url(), "orders.shipped", "")
	require.NoError(t, inTime(t, action, orderOf("before", `{}`)))
	for round := range 2 {
		s.stop()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // no answer comes to what is sent before it is known to be away
			requireTransient(t, action.Run(ctx, orderOf("during", `{}`)), "refused", "network", "timeout")
			cancel()
		}
		requireTransient(t, inTime(t, action, orderOf("during", `{}`)), "refused", "network") // no time-out: it is known to be away
		s.start(t)
		testenv.Eventually(t, 30*time.Second, func() error { return inTime(t, action, orderOf(fmt.Sprint("after", round), `{}`)) })
	}
	conn, err := nats.Connect(s.url())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	require.EqualValues(t, 3, stored(t, stream), "what was published while the server was away is not sent later")
}

func TestPublishFindsANATSServerThatStartsLater(t *testing.T) {
	t.Parallel()
	s := newNATSServer(t, server.Options{})
	natsStream(t, s.url())
	s.stop()
	action := natsAction(t, s.url(), "orders.shipped", "")
	requireTransient(t, inTime(t, action, delivery(`{}`)), "refused")
	s.start(t)
	testenv.Eventually(t, 30*time.Second, func() error { return inTime(t, action, delivery(`{}`)) })
}

// TestPublishedIsStored publishes from many goroutines while the server goes and comes: what was reported as done is there.
func TestPublishedIsStored(t *testing.T) {
	t.Parallel()
	s := newNATSServer(t, server.Options{})
	natsStream(t, s.url())
	action := natsAction(t, s.url(), "orders.shipped", `{"id": {{ data.id }}}`)
	var (
		next, failed atomic.Int64
		group        errgroup.Group
		done         = make(chan string, 1<<20)
	)
	ctx, cancel := context.WithCancel(t.Context())
	for range 8 {
		group.Go(func() error {
			for ctx.Err() == nil {
				id := fmt.Sprint("event-", next.Add(1))
				if err := action.Run(t.Context(), orderOf(id, `{"id": 1}`)); err == nil {
					done <- id
					continue
				}
				failed.Add(1)
				<-time.After(time.Millisecond)
			}
			return nil
		})
	}
	for range 2 {
		<-time.After(300 * time.Millisecond)
		s.stop()
		<-time.After(100 * time.Millisecond)
		s.start(t)
		before := len(done)
		testenv.Eventually(t, 30*time.Second, func() error {
			if len(done) == before {
				return errors.New("nothing published since the server is back")
			}
			return nil
		})
	}
	cancel()
	require.NoError(t, group.Wait())
	close(done)
	t.Logf("%d done, %d failed", len(done), failed.Load())
	require.NotZero(t, failed.Load())

	there := map[string]int{}
	conn, err := nats.Connect(s.url())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	consumer, err := js.OrderedConsumer(t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	defer messages.Stop()
	for range stored(t, stream) {
		m, err := messages.Next()
		require.NoError(t, err)
		there[m.Headers().Get("event_id")]++
	}
	for id := range done {
		require.Equal(t, 1, there[id], "%s was reported as done", id)
	}
}

func TestPublishToASilentNATSServerEndsWithItsTime(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	action := natsAction(t, "nats://"+listener.Addr().String(), "orders.shipped", "")
	for range 2 {
		var group errgroup.Group
		for range 3 {
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				begin := time.Now()
				requireTransient(t, action.Run(ctx, delivery(`{}`)), "timeout", "network")
				require.Less(t, time.Since(begin), 10*time.Second, "far more than it takes, for a busy machine")
				return nil
			})
		}
		require.NoError(t, group.Wait())
		<-time.After(time.Second) // it looks for the server again
	}
}

func TestPublishWithoutTheRightSaysSo(t *testing.T) {
	t.Parallel()
	deny := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"orders.>"}}}
	s := newNATSServer(t, server.Options{Users: []*server.User{{Username: "admin", Password: "s3cret"}, {Username: "app", Password: "s3cret", Permissions: deny}}})
	with := func(user string) string { return strings.Replace(s.url(), "//", "//"+user+":s3cret@", 1) }
	natsStream(t, with("admin"))
	err := inTime(t, natsAction(t, with("app"), "orders.shipped", ""), delivery(`{}`))
	requireTransient(t, err, "denied")
	require.ErrorContains(t, err, "may not publish to orders.shipped")

	err = inTime(t, natsAction(t, strings.Replace(with("app"), "s3cret", "guess", 1), "orders.shipped", ""), delivery(`{}`))
	requireTransient(t, err, "auth")
	require.NotContains(t, err.Error(), "guess")
}

func TestPublishSaysWhatIsWrongWithTheConfig(t *testing.T) {
	t.Parallel()
	cfg := natsConfig(natsAway)
	cfg.TLSCA = "/nonexistent/ca.pem"
	env := serversEnv(t, handlers.ServersConfig{NATS: cfg})
	err := inTime(t, publishAction(t, env, handlers.PublishConfig{Topic: "orders"}), delivery(`{}`))
	requireTransient(t, err, "config")
	require.ErrorContains(t, err, "connect to NATS: read tls_ca")
}
