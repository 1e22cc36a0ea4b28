package handlers_test

import (
	"encoding/hex"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

func cacheable(t *testing.T, cfg handlers.WebhookConfig, hidden ...string) (handlers.Action, error) {
	t.Helper()
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	cfg.Cacheable = true
	env := handlers.Env{HTTP: h, Timeout: time.Second, Hidden: func(key string) bool { return slices.Contains(hidden, key) }}
	return handlers.NewWebhook(&cfg, env)
}

func fingerprint(t *testing.T, cfg handlers.WebhookConfig, d *event.Delivery, hidden ...string) string {
	t.Helper()
	action, err := cacheable(t, cfg, hidden...)
	require.NoError(t, err)
	sum, err := action.(handlers.Fingerprinter).Fingerprint(d)
	require.NoError(t, err)
	return hex.EncodeToString(sum)
}

// order is a webhook of which each part comes from the row.
func order() handlers.WebhookConfig {
	return handlers.WebhookConfig{
		URL: "https://example.com/orders/{{ data.id }}?shop=1", Method: "POST", BodyTemplate: `{"status": {{ data.status }}}`,
		Headers: map[string]string{"X-Row": "{{ data.row }}", "X-Fixed": "1", "Authorization": "Bearer one", "X-Hidden": "two"},
	}
}

const orderRow = `{"id": 1, "status": "paid", "row": "a"}`

func TestTheFingerprintIsOfWhatTheReceiverGets(t *testing.T) {
	t.Setenv("TEST_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	base := fingerprint(t, order(), delivery(orderRow), "headers.X-Hidden")
	other := delivery(orderRow)
	other.Event.ID, other.Event.Seq, other.Event.Timestamp, other.Generation = "other", 99, time.Now(), 1
	require.Equal(t, base, fingerprint(t, order(), other, "headers.X-Hidden"), "another event with the same request")

	for name, row := range map[string]string{
		"the path":                  `{"id": 2, "status": "paid", "row": "a"}`,
		"the body":                  `{"id": 1, "status": "sent", "row": "a"}`,
		"a header":                  `{"id": 1, "status": "paid", "row": "b"}`,
		"what belongs to which one": `{"id": 1, "status": "", "row": "apaid"}`,
	} {
		require.NotEqual(t, base, fingerprint(t, order(), delivery(row), "headers.X-Hidden"), name)
	}
	for name, change := range map[string]func(*handlers.WebhookConfig){
		"the host":                 func(c *handlers.WebhookConfig) { c.URL = "https://example.org/orders/{{ data.id }}?shop=1" },
		"the scheme":               func(c *handlers.WebhookConfig) { c.URL = "http://example.com/orders/{{ data.id }}?shop=1" },
		"the query":                func(c *handlers.WebhookConfig) { c.URL = "https://example.com/orders/{{ data.id }}?shop=2" },
		"the method":               func(c *handlers.WebhookConfig) { c.Method = "PUT" },
		"a fixed header":           func(c *handlers.WebhookConfig) { c.Headers["X-Fixed"] = "2" },
		"one header more":          func(c *handlers.WebhookConfig) { c.Headers["X-More"] = "2" },
		"how the body is encoded":  func(c *handlers.WebhookConfig) { c.Headers["Content-Type"] = "text/plain" },
		"another key of the table": func(c *handlers.WebhookConfig) { c.TimeoutMS = 5 },
		"whether it is signed":     func(c *handlers.WebhookConfig) { c.SigningSecretEnv = []string{"TEST_SECRET"} },
	} {
		cfg := order()
		cfg.Headers = maps.Clone(cfg.Headers)
		change(&cfg)
		require.NotEqual(t, base, fingerprint(t, cfg, delivery(orderRow), "headers.X-Hidden"), name)
	}
}

// A hash that no credential goes into gives none away, even to who tries all that are likely.
func TestNoCredentialIsPartOfTheFingerprint(t *testing.T) {
	t.Setenv("TEST_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	signed := func() handlers.WebhookConfig {
		cfg := order()
		cfg.SigningSecretEnv = []string{"TEST_SECRET"}
		for _, name := range []string{"Cookie", "X-Api-Key", "X-Auth-Token", "Proxy-Authorization", "X-Secret", "x-auth", "Api_Password"} {
			cfg.Headers[name] = "one"
		}
		cfg.Headers["X.Hidden"] = "one"
		return cfg
	}
	hidden := []string{"headers.X-Hidden", `headers."X.Hidden"`}
	base := fingerprint(t, signed(), delivery(orderRow), hidden...)
	for name := range signed().Headers {
		if name == "X-Row" || name == "X-Fixed" {
			continue
		}
		cfg := signed()
		cfg.Headers[name] = "changed"
		require.Equal(t, base, fingerprint(t, cfg, delivery(orderRow), hidden...), name)
	}
	user := signed()
	user.URL = secret.String("https://app:s3cret@example.com/orders/{{ data.id }}?shop=1")
	require.Equal(t, base, fingerprint(t, user, delivery(orderRow), hidden...), "the user of the URL")
	t.Setenv("TEST_SECRET", "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.Equal(t, base, fingerprint(t, signed(), delivery(orderRow), hidden...), "the secret to sign with")
}

func TestACredentialWithPlaceholdersIsNotCacheable(t *testing.T) {
	for name, tc := range map[string]struct {
		header string
		hidden []string
		key    string
	}{
		"by its name":      {"Authorization", nil, "headers.Authorization"},
		"by a reference":   {"X-Shop", []string{"headers.X-Shop"}, "headers.X-Shop"},
		"with an odd name": {"X.Token", nil, `headers."X.Token"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cacheable(t, handlers.WebhookConfig{URL: "https://example.com", Headers: map[string]string{tc.header: "Bearer s3cret {{ data.id }}"}}, tc.hidden...)
			require.EqualError(t, err, tc.key+": is a credential with placeholders, so that two requests that look the same may not be (remove cacheable, or the placeholders)")
		})
	}
}

func TestWhatCannotBeRenderedHasNoFingerprint(t *testing.T) {
	for name, cfg := range map[string]handlers.WebhookConfig{
		"the body": {URL: "https://example.com", BodyTemplate: "{{ data.missing }}"},
		"the URL":  {URL: "https://example.com/{{ data.missing }}", Method: "GET"},
		"a header": {URL: "https://example.com", Method: "GET", Headers: map[string]string{"X-Row": "{{ data.missing }}"}},
	} {
		t.Run(name, func(t *testing.T) {
			action, err := cacheable(t, cfg)
			require.NoError(t, err)
			_, err = action.(handlers.Fingerprinter).Fingerprint(delivery(orderRow))
			require.ErrorContains(t, err, "missing")
		})
	}
}
