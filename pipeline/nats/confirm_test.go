package nats_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
)

// oneWay is a proxy to a server, which says nothing of what it hears from the client while it is deaf.
type oneWay struct {
	*toxiproxy.Proxy
	url string
}

func newOneWay(t *testing.T, url string) *oneWay {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "nats", "127.0.0.1:0", strings.TrimPrefix(url, "nats://"))
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	return &oneWay{proxy, "nats://" + proxy.Listen}
}

func (w *oneWay) deaf(t *testing.T) {
	t.Helper()
	_, err := w.Toxics.AddToxicJson(strings.NewReader(`{"name": "deaf", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`))
	require.NoError(t, err)
}

// hears ends that; the connection breaks, and what was said is lost.
func (w *oneWay) hears(t *testing.T) {
	t.Helper()
	require.NoError(t, w.Toxics.RemoveToxic(t.Context(), "deaf"))
}

func TestAnAckThatTheServerNeverGotIsRepeated(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"one": 1, "a burst": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, cfg := natsenv.JetStream(t), config()
			cfg.JetStream.AckWaitSecs = 1
			proxy := newOneWay(t, url)
			_, err := publisherOf(t, url, cfg).PublishEvents(t.Context(), events(1, n+1))
			require.NoError(t, err)
			d, _ := worker(t, proxy.url, cfg, 100)
			items := fetchAll(t.Context(), t, d, n+1)
			ctx, stop := context.WithCancel(t.Context())
			fetching := make(chan []window.Item)
			go func() {
				again, _ := d.Fetch(ctx, 100)
				fetching <- again
			}()
			js := topology(t, connect(t, url), cfg, 100).JS
			testenv.Eventually(t, within, consumes(js, "nobody asks for messages", func(c *jetstream.ConsumerInfo) bool { return c.NumWaiting > 0 }))
			proxy.deaf(t)
			require.NoError(t, d.Ack(t.Context(), items[:n]))
			testenv.Eventually(t, within, consumes(js, "not all was delivered again", func(c *jetstream.ConsumerInfo) bool { return c.NumRedelivered > n }))
			require.EqualValues(t, n+1, waiting(t, url, cfg))
			proxy.hears(t)
			left(t, url, cfg, 1)
			stop()
			require.Empty(t, <-fetching, "neither what is done nor what is running comes again")
			nothing(t, d, time.Second)
			require.NoError(t, d.Ack(t.Context(), items[n:]))
			require.NoError(t, d.Close(t.Context()))
			require.Zero(t, waiting(t, url, cfg))
		})
	}
}

// consumes reports what the server says of the consumer.
func consumes(js jetstream.JetStream, not string, is func(*jetstream.ConsumerInfo) bool) func() error {
	return func() error {
		consumer, err := js.Consumer(context.Background(), config().StreamName, config().ConsumerName)
		if err == nil && !is(consumer.CachedInfo()) {
			err = errors.New(not)
		}
		return err
	}
}

// unconfirmed returns a worker that has acknowledged n events to a server that it cannot hear.
func unconfirmed(t *testing.T, n int) (d *nats.Driver, proxy *oneWay, url string) {
	t.Helper()
	url = natsenv.JetStream(t)
	proxy = newOneWay(t, url)
	_, err := publisherOf(t, url, config()).PublishEvents(t.Context(), events(1, n))
	require.NoError(t, err)
	d, _ = worker(t, proxy.url, config(), 100)
	items := fetchAll(t.Context(), t, d, n)
	proxy.deaf(t)
	require.NoError(t, d.Ack(t.Context(), items))
	return d, proxy, url
}

func TestCloseWaitsUntilTheServerHasConfirmed(t *testing.T) {
	t.Parallel()
	d, proxy, url := unconfirmed(t, 5)
	closed := make(chan error)
	go func() { closed <- d.Close(t.Context()) }()
	select {
	case err := <-closed:
		require.Fail(t, "closed", "%v", err)
	case <-time.After(500 * time.Millisecond):
	}
	proxy.hears(t)
	require.NoError(t, <-closed)
	require.Zero(t, waiting(t, url, config()))
}

func TestCloseSaysWhatMayComeAgain(t *testing.T) {
	t.Parallel()
	d, _, _ := unconfirmed(t, 5)
	nats.SetFlushTimeout(d, 500*time.Millisecond)
	require.ErrorContains(t, d.Close(t.Context()), "has not confirmed 5 acks")
}

func TestAcksOfAStreamThatIsGoneAreForgotten(t *testing.T) {
	t.Parallel()
	url := natsenv.JetStream(t)
	_, err := publisherOf(t, url, config()).PublishEvents(t.Context(), events(1, 5))
	require.NoError(t, err)
	conn := connect(t, url)
	top := topology(t, conn, config(), 100)
	d, err := nats.NewDriver(nats.DriverConfig{Topology: top})
	require.NoError(t, err)
	items := fetchAll(t.Context(), t, d, 5)
	require.NoError(t, top.JS.DeleteStream(t.Context(), config().StreamName))
	require.NoError(t, d.Ack(t.Context(), items))
	require.NoError(t, d.Close(t.Context()))
}
