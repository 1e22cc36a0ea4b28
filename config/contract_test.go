package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/middleware"
)

// contract.good.toml is the contract's example, every value of which is the default, with a database URL.
func TestTheContractsFileStatesTheDefaults(t *testing.T) {
	setEnvironment(t)
	cfg, err := Load(filepath.Join("testdata", "contract.good.toml"), Options{})
	require.NoError(t, err)
	for _, w := range cfg.Warnings {
		require.Contains(t, w.Message, "has no effect in this topology")
	}
	defaults, err := Load("", Options{Needs: NeedsNothing})
	require.NoError(t, err)

	examples := []string{"transport.postgres.url", "smtp.from"} // no default: what stands there is an example
	onlyMentioned := []string{
		"transport.nats.token_env", "transport.nats.tls_ca", "transport.nats.tls_cert", "transport.nats.tls_key",
		"transport.nats.jetstream.partitions", "redis.tls_ca", "redis.tls_cert", "redis.tls_key",
	} // more than the contract has
	for _, want := range defaults.Merged() {
		got := find(t, cfg, want.Key)
		require.Equal(t, slices.Contains(onlyMentioned, want.Key), got.Source == "default", want.Key)
		if !slices.Contains(examples, want.Key) {
			require.Equal(t, want.Value, got.Value, want.Key)
		}
	}
	require.Equal(t, "nats://localhost:4222", defaults.Transport.NATS.URL.Reveal())
	require.Equal(t, "redis://localhost:6379", defaults.Redis.URL.Reveal())
	require.Equal(t, 25*time.Second, defaults.Performance.ShutdownTimeout)
}

func TestTheContractsObserverIsDecoded(t *testing.T) {
	setEnvironment(t)
	cfg, err := Load(filepath.Join("testdata", "contract.good.toml"), Options{})
	require.NoError(t, err)
	require.Equal(t, []Observer{{
		Name: "order-shipped", EventType: event.Update, Entity: "Order", Condition: "data.status == 'shipped'",
		Enabled: true, Order: "entity", OnRetry: "overtake", OnFailure: "dlq", Middleware: []string{},
		Actions: []Action{{
			Type: "webhook", Name: "notify",
			Config: &handlers.WebhookConfig{URL: secret.String("https://example.com/webhook"), Method: "POST", BodyTemplate: "{{ event.data }}"},
		}},
		Retry: middleware.RetryConfig{MaxAttempts: 15, InitialDelayMS: 1000, MaxDelayMS: 3600000, BackoffStrategy: "exponential", Jitter: true},
	}}, cfg.Observers)
	for _, s := range cfg.Merged() {
		if strings.HasPrefix(s.Key, "observers[0].retry.") {
			require.NotEqual(t, "default", s.Source, s.Key)
		}
	}
}

// What an observer leaves out has the defaults that the contract's example writes down.
func TestAShortObserverHasTheContractsDefaults(t *testing.T) {
	setEnvironment(t)
	full, err := Load(filepath.Join("testdata", "contract.good.toml"), Options{})
	require.NoError(t, err)
	short, err := load("f.toml", []byte("transport.transport = \"in_memory\"\n[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://example.com\"\n"), Options{})
	require.NoError(t, err)
	want, got := full.Observers[0], short.Observers[0]
	require.Equal(t, want.Retry, got.Retry)
	require.Equal(t, []any{want.Enabled, want.Order, want.OnRetry, want.OnFailure}, []any{got.Enabled, got.Order, got.OnRetry, got.OnFailure})
	require.Equal(t, "order-any-1", got.Name)
	require.Equal(t, "webhook-1", got.Actions[0].Name)
	require.Empty(t, got.EventType)
}
