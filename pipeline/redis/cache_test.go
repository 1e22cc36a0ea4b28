package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/middleware/resultstest"
	"github.com/fraiseql/observer/pipeline/redis"
)

func TestMain(m *testing.M) {
	testenv.Concurrent(16)
	os.Exit(testenv.MainWithLeakCheck(m))
}

func open(tb testing.TB, url string) goredis.UniversalClient {
	tb.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: secret.String(url), PoolSize: 10, ConnectTimeoutSecs: 5, CommandTimeoutSecs: 2})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client
}

func TestResultsConform(t *testing.T) {
	t.Parallel()
	resultstest.Run(t, redis.NewResults(open(t, testenv.Redis(t))))
}

func TestAResultIsOneShortKeyThatExpires(t *testing.T) {
	t.Parallel()
	client, key := open(t, testenv.Redis(t)), "action_result:"+uuid.NewString()
	require.NoError(t, redis.NewResults(client).Put(t.Context(), key, time.Minute))
	require.Equal(t, "1", client.Get(t.Context(), key).Val())
	left := client.PTTL(t.Context(), key).Val()
	require.Greater(t, left, 30*time.Second)
	require.LessOrEqual(t, left, time.Minute)
}

func TestResultsSayWhatFailedAndHideThePassword(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	results := redis.NewResults(open(t, "redis://app:s3cret@"+nobody.Addr().String()))
	_, err = results.Has(t.Context(), "action_result:x")
	require.ErrorContains(t, err, "read cached result: ")
	require.NotContains(t, err.Error(), "s3cret")
	err = results.Put(t.Context(), "action_result:x", time.Minute)
	require.ErrorContains(t, err, "cache result: ")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestResultsEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := redis.NewResults(open(t, testenv.Redis(t))).Has(ctx, "action_result:x")
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkHit times a hit of a webhook, from the rendering of its request on, beside a bare GET of the same client. It prints
// the median of each.
func BenchmarkHit(b *testing.B) {
	client := open(b, testenv.Redis(b))
	key := "action_result:" + uuid.NewString()
	require.NoError(b, client.Set(b.Context(), key, "1", time.Hour).Err())
	skip := skipped(b, client)
	for name, ask := range map[string]func() error{
		"hit of a webhook": skip,
		"raw GET":          func() error { return client.Get(b.Context(), key).Err() },
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				err := ask()
				took = append(took, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
		})
	}
}

// skipped returns a delivery of a webhook that is a hit each time.
func skipped(b *testing.B, client goredis.UniversalClient) func() error {
	b.Helper()
	http, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(b, err)
	b.Cleanup(http.Close)
	action, err := handlers.NewWebhook(&handlers.WebhookConfig{
		URL: "https://example.com/orders/{{ data.id }}", BodyTemplate: `{"order": {{ data.id }}, "status": {{ data.status }}}`, Cacheable: true,
	}, handlers.Env{HTTP: http})
	require.NoError(b, err)
	results, err := middleware.NewResults(middleware.ResultsConfig{Store: redis.NewResults(client), TTL: time.Hour, Log: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	ran := 0
	cached := middleware.Cache(results, middleware.DeliveryKey(action.(handlers.Fingerprinter).Fingerprint))(func(*message.Message) ([]*message.Message, error) {
		if ran++; ran > 1 {
			return nil, errors.New("no hit")
		}
		return nil, nil
	})
	d := &event.Delivery{Event: &event.Event{ID: uuid.NewString(), Data: []byte(`{"id": 7, "status": "` + uuid.NewString() + `"}`)}, Observer: "o", Action: "a"}
	msg := message.NewMessageWithContext(event.NewContext(b.Context(), d), d.Event.ID, nil)
	skip := func() error {
		_, err := cached(msg)
		return err
	}
	require.NoError(b, skip())
	return skip
}
