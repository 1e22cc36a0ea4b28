package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
)

// scene is what every topology is asked to do: conditions, a retry, a dead letter, an order.
const scene = `
[admin]
listen = "127.0.0.1:0"
[log]
level = "debug"
[[observers]]
name = "shipped"
entity = "Order"
event_type = "UPDATE"
condition = "data.status == 'shipped' && changed('status')"
actions = [{ type = "webhook", name = "tell", url = "http://%[1]s/shipped" }]
[[observers]]
name = "flaky"
entity = "Order"
actions = [{ type = "webhook", name = "tell", url = "http://%[1]s/flaky" }]
[observers.retry]
initial_delay_ms = 50
max_delay_ms = 50
[[observers]]
name = "refused"
entity = "Invoice"
actions = [{ type = "webhook", name = "tell", url = "http://%[1]s/refused" }]
[[observers]]
name = "all"
entity = "*"
actions = [{ type = "webhook", name = "tell", url = "http://%[1]s/all", body_template = '{"n": {{ data.n }}, "of": "{{ event.entity_type }} {{ event.entity_id }}"}' }]
`

const sceneEvents = `{"id":"00000000-0000-0000-0000-000000000001","entity_type":"Order","entity_id":"1","event_type":"INSERT","data":{"n":1,"status":"new"}}
{"id":"00000000-0000-0000-0000-000000000002","entity_type":"Order","entity_id":"1","event_type":"UPDATE","data":{"n":2,"status":"shipped"},"before":{"n":1,"status":"new"}}
{"id":"00000000-0000-0000-0000-000000000003","entity_type":"Order","entity_id":"2","event_type":"UPDATE","data":{"n":3,"status":"new"},"before":{"n":2,"status":"new"}}
{"id":"00000000-0000-0000-0000-000000000004","entity_type":"Invoice","entity_id":"7","data":{"n":12345678901234567890}}
`

// stage receives what a topology delivers: of each delivery, the last answer.
type stage struct {
	mu    sync.Mutex
	calls map[string]int
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.URL.Path + " " + r.Header.Get("webhook-id")
	s.calls[key]++
	switch {
	case r.URL.Path == "/flaky" && s.calls[key] < 3:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/refused":
		w.WriteHeader(http.StatusForbidden)
	}
}

func (s *stage) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for key, n := range s.calls {
		list = append(list, fmt.Sprintf("%s %d", key, n))
	}
	slices.Sort(list)
	return list
}

// TestEveryTopologyDoesTheSame runs one file of observers over each transport and compares what arrives.
func TestEveryTopologyDoesTheSame(t *testing.T) {
	scenario(t)
	topologies := map[string]func(*testing.T) string{
		"postgres": func(t *testing.T) string {
			t.Helper()
			url := captured.Postgres(t)
			return fmt.Sprintf("[transport]\ntransport = \"postgres\"\n[transport.postgres]\nurl = %q\n", url)
		},
		"nats": func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("[transport]\ntransport = \"nats\"\n[transport.nats]\nurl = %q\n", natsenv.JetStream(t))
		},
		"redis": func(t *testing.T) string {
			t.Helper()
			return fmt.Sprintf("[transport]\ntransport = \"redis\"\n[redis]\nurl = %q\n", testenv.NewRedis(t, "appendonly yes").URL())
		},
		"in_memory": func(t *testing.T) string {
			t.Helper()
			return "[transport]\ntransport = \"in_memory\"\n"
		},
	}
	var want []string
	for i := range 4 {
		id := fmt.Sprintf("00000000-0000-0000-0000-%012d", i+1)
		want = append(want, fmt.Sprintf("/all %s_all_tell 1", id))
		if i < 3 {
			want = append(want, fmt.Sprintf("/flaky %s_flaky_tell 3", id))
		}
	}
	want = append(want, "/shipped 00000000-0000-0000-0000-000000000002_shipped_tell 1", "/refused 00000000-0000-0000-0000-000000000004_refused_tell 1")
	slices.Sort(want)
	for name, topology := range topologies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stage{calls: map[string]int{}}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			dir := t.TempDir()
			config, events := filepath.Join(dir, "observer.toml"), filepath.Join(dir, "events.ndjson")
			require.NoError(t, os.WriteFile(config, []byte(topology(t)+fmt.Sprintf(scene, strings.TrimPrefix(server.URL, "http://"))), 0o600))
			require.NoError(t, os.WriteFile(events, []byte(sceneEvents), 0o600))
			if name == "in_memory" {
				_, _, code := call(t, config, "run", "--input", events)
				require.Equal(t, 1, code, "one became a dead letter")
				require.Equal(t, want, s.list())
				return
			}
			o := startObserver(t, config)
			o.awaits(t, `msg=(leading|working)`)
			emitFile(t, config, events)
			testenv.Eventually(t, within, func() error {
				if got := s.list(); !slices.Equal(want, got) {
					return fmt.Errorf("got %v", got)
				}
				return nil
			})
			testenv.Eventually(t, within, func() error {
				if n := listDeadLetters(t, config).Total; n != 1 {
					return fmt.Errorf("%d dead letters", n)
				}
				return nil
			})
			code, _ := o.terminate(t)
			require.Zero(t, code)
			require.Equal(t, want, s.list(), "nothing more came")
		})
	}
}

// emitFile puts the events of a file into the configured transport.
func emitFile(t *testing.T, config, file string) {
	t.Helper()
	text, err := os.Open(file)
	require.NoError(t, err)
	defer func() { require.NoError(t, text.Close()) }()
	cmd := command(t.Context(), "emit", "--data", "-", "--config", config)
	cmd.Env = append(cmd.Env, childEnv+"="+childReads)
	cmd.Stdin = text
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
