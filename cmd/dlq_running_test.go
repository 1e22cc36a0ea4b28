package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

// hook is a receiver whose answer a test sets.
type hook struct {
	code  atomic.Int64
	calls atomic.Int64
	held  atomic.Pointer[chan struct{}] // what a call waits for
}

// hold makes calls wait until release is called.
func (h *hook) hold() (release func()) {
	gate := make(chan struct{})
	h.held.Store(&gate)
	return func() { close(gate) }
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.calls.Add(1)
	if gate := h.held.Load(); gate != nil {
		select {
		case <-*gate:
		case <-r.Context().Done():
		}
	}
	w.WriteHeader(int(h.code.Load()))
}

// running runs the program over a database, with one observer that calls h, until the test ends.
func running(t *testing.T, h *hook) (cfg string, db *pgx.Conn) {
	t.Helper()
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	cfg, db = database(t)
	content, err := os.ReadFile(cfg)
	require.NoError(t, err)
	cfg = file(t, "observer.toml", string(content)+fmt.Sprintf(`
start_from = "beginning"
[admin]
listen = ""
[[observers]]
name = "shipped"
entity = "Order"
[[observers.actions]]
type = "webhook"
name = "notify"
url = %q
`, receiver.URL))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{"run", "--config", cfg}, strings.NewReader(""), io.Discard, io.Discard)
	}()
	t.Cleanup(func() {
		cancel()
		require.Zero(t, <-ended)
	})
	return cfg, db
}

// awaits waits until the only dead letter is as wanted, or there is none: nil.
func awaits(t *testing.T, cfg string, want func(*deadletter.Letter) bool) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		var page list[deadletter.Letter]
		r := observer(t, "", "dlq", "list", "--config", cfg, "--format", "json")
		if err := json.Unmarshal([]byte(r.out), &page); err != nil {
			return fmt.Errorf("%w: %s", err, r.err)
		}
		var letter *deadletter.Letter
		if page.Total > 0 {
			letter = &page.Items[0]
		}
		if !want(letter) {
			return fmt.Errorf("dead letters are %s", r.out)
		}
		return nil
	})
}

func atRest(attempts int) func(*deadletter.Letter) bool {
	return func(l *deadletter.Letter) bool { return l != nil && l.Attempts == attempts && !l.Retrying }
}

func noLetter(l *deadletter.Letter) bool { return l == nil }

func TestAReplayRunsOnceIsKeptWhenItFailsAndGoesWhenItSucceeds(t *testing.T) {
	t.Parallel()
	h := &hook{}
	h.code.Store(http.StatusGone)
	cfg, _ := running(t, h)
	succeeds(t, "emit", "--entity", "Order", "--data", `{"id": 1}`, "--config", cfg)
	awaits(t, cfg, atRest(1))

	h.code.Store(http.StatusForbidden)
	release := h.hold() // the replays of both calls would overlap
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() { succeeds(t, "dlq", "retry", "1", "--config", cfg) })
	}
	calls.Wait()
	release()
	awaits(t, cfg, atRest(2))
	require.EqualValues(t, 2, h.calls.Load(), "the first delivery, and one replay")
	shown := succeeds(t, "dlq", "show", "1", "--config", cfg)
	require.Regexp(t, `attempt 1  [^\n]*410[^\n]*\nattempt 2  replay 1  [^\n]*403`, shown)

	h.code.Store(http.StatusOK)
	succeeds(t, "dlq", "retry-all", "--yes", "--config", cfg)
	awaits(t, cfg, noLetter)
	require.EqualValues(t, 3, h.calls.Load())
}

func TestADeadLetterInWorkIsNotRemoved(t *testing.T) {
	t.Parallel()
	h := &hook{}
	h.code.Store(http.StatusGone)
	cfg, db := running(t, h)
	succeeds(t, "emit", "--entity", "Order", "--data", `{"id": 1}`, "--config", cfg)
	awaits(t, cfg, atRest(1))
	release := h.hold()
	succeeds(t, "dlq", "retry", "1", "--config", cfg)
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := h.calls.Load(); n != 2 {
			return fmt.Errorf("%d calls", n)
		}
		return nil
	})
	r := observer(t, "", "dlq", "remove", "1", "--config", cfg)
	require.Equal(t, exitRuntime, r.code)
	require.Contains(t, r.err, "dead letter 1: it is being delivered again at this moment")
	require.Equal(t, 1, one[int](t, db, `select count(*) from core.tb_observer_dead_letter`))
	release()
	awaits(t, cfg, atRest(2))
	succeeds(t, "dlq", "remove", "1", "--config", cfg)
	awaits(t, cfg, noLetter)
}
