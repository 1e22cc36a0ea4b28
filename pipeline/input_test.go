package pipeline_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/pipeline"
)

// build returns the pipeline of a configuration file's text.
func build(t *testing.T, text string, actions ...handlers.Definition) *pipeline.Pipeline {
	t.Helper()
	return buildWith(t, text, slog.New(slog.DiscardHandler), actions...)
}

func buildWith(t *testing.T, text string, log *slog.Logger, actions ...handlers.Definition) *pipeline.Pipeline {
	t.Helper()
	plan, err := load(t, text, log, actions...)
	require.NoError(t, err)
	p, err := pipeline.New(pipeline.Options{Plan: plan, Log: log})
	require.NoError(t, err)
	return p
}

func load(t *testing.T, text string, log *slog.Logger, actions ...handlers.Definition) (*pipeline.Plan, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "observer.toml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	registry, err := handlers.NewRegistry(actions...)
	require.NoError(t, err)
	client, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: 10, Version: "test"})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	var plan *pipeline.Plan
	_, err = config.Load(file, config.Options{Actions: registry.Configs(), Check: func(c *config.Config) (problems []config.Problem) {
		servers := handlers.NewServers(handlers.ServersConfig{Redis: &c.Redis})
		t.Cleanup(servers.Close)
		plan, problems = pipeline.Compile(c, registry, handlers.Env{Logger: log, HTTP: client, Servers: servers, Timeout: time.Second})
		return problems
	}})
	return plan, err
}

const webhookOnShipped = `
[transport]
transport = "in_memory"
[[observers]]
entity = "Order"
event_type = "UPDATE"
condition = "data.status == 'shipped'"
[[observers.actions]]
type = "webhook"
url = "%s"
body_template = '{"order": {{ event.entity_id }}}'
[observers.retry]
max_attempts = 2
initial_delay_ms = 1
`

func events() io.Reader {
	return strings.NewReader(`
{"entity_type":"Order","event_type":"UPDATE","entity_id":"1","data":{"status":"shipped"}}
{"entity_type":"Order","event_type":"UPDATE","entity_id":"2","data":{"status":"new"}}

{"entity_type":"Order","event_type":"INSERT","entity_id":"3","data":{"status":"shipped"}}
`)
}

func TestRunInputDeliversWhatMatchesAndEndsWhenAllIsSettled(t *testing.T) {
	var got atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(string(body))
	}))
	t.Cleanup(server.Close)
	summary, err := build(t, strings.ReplaceAll(webhookOnShipped, "%s", server.URL)).RunInput(t.Context(), "input", events())
	require.NoError(t, err)
	require.JSONEq(t, `{"order": "1"}`, got.Load().(string))
	summary.DurationMS = 0
	require.Equal(t, pipeline.Summary{Events: 3, Matched: 1, Delivered: 1}, summary)
}

func TestRunInputRetriesAndThenCountsADeadLetter(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	summary, err := build(t, strings.ReplaceAll(webhookOnShipped, "%s", server.URL)).RunInput(t.Context(), "input", events())
	require.NoError(t, err)
	require.EqualValues(t, 2, requests.Load())
	require.EqualValues(t, 1, summary.DeadLetters)
	require.Zero(t, summary.Delivered)
}

func TestRunInputNamesTheLineThatIsNoEvent(t *testing.T) {
	p := build(t, strings.ReplaceAll(webhookOnShipped, "%s", "http://localhost:1"))
	summary, err := p.RunInput(t.Context(), "orders.ndjson", strings.NewReader("{\"entity_type\":\"Other\",\"data\":{}}\n{\"data\":{}}\n"))
	require.EqualError(t, err, `orders.ndjson:2: decode event: "entity_type" is missing`)
	require.Equal(t, 1, summary.Events)
}

func TestRunInputSaysThatALineHoldsOneEvent(t *testing.T) {
	for name, in := range map[string]string{
		"two on one line":  `{"entity_type":"Order","data":{}} {"entity_type":"Order","data":{}}`,
		"one on two lines": "{\n\"entity_type\":\"Order\",\"data\":{}}",
	} {
		t.Run(name, func(t *testing.T) {
			p := build(t, strings.ReplaceAll(webhookOnShipped, "%s", "http://localhost:1"))
			_, err := p.RunInput(t.Context(), "orders.ndjson", strings.NewReader(in))
			var wrong *pipeline.InputError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, "orders.ndjson:1: ")
			require.ErrorContains(t, err, "one line holds one event")
		})
	}
}

func TestRunInputEndsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client goes
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	p := build(t, strings.ReplaceAll(webhookOnShipped, "%s", hanging.URL)+"[performance]\nshutdown_timeout = \"1s\"\n")
	_, err := p.RunInput(ctx, "input", events())
	require.ErrorContains(t, err, "interrupted: ")
	require.ErrorContains(t, err, " events are not settled")
}

// stuck is an action that ignores that its time is up.
type stuck struct{ began, free chan struct{} }

func (s stuck) Run(context.Context, *event.Delivery) error {
	close(s.began)
	<-s.free
	return nil
}

func TestAnActionThatIgnoresTheEndDoesNotHoldItUp(t *testing.T) {
	action := stuck{make(chan struct{}), make(chan struct{})}
	define := handlers.Define("stuck", func(*struct{}, handlers.Env) (handlers.Action, error) { return action, nil })
	p := build(t, "[transport]\ntransport = \"in_memory\"\n[performance]\nshutdown_timeout = \"1s\"\n[[observers]]\nentity = \"*\"\n[[observers.actions]]\ntype = \"stuck\"\n", define)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-action.began
		cancel()
	}()
	_, err := p.RunInput(ctx, "input", strings.NewReader(`{"entity_type":"Order","data":{}}`))
	require.ErrorContains(t, err, "interrupted: ")
	close(action.free)
}
