package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const twoActions = `
[transport.postgres]
url = %q
[admin]
listen = ""
[[observers]]
name = "all"
entity = "*"
[[observers.actions]]
type = "webhook"
name = "quick"
url = %q
[[observers.actions]]
type = "webhook"
name = "slow"
url = %q
`

// TestASlowActionRepeatsNoOtherAfterACrash kills the process while an event's second action waits behind a slow receiver
// and its first has long succeeded.
func TestASlowActionRepeatsNoOtherAfterACrash(t *testing.T) {
	exact(t)
	const n = 40
	w := &world{url: captured.Postgres(t), dir: t.TempDir()}
	quick, slow := newCounter(t, 0), newCounter(t, 100*time.Millisecond)
	config := filepath.Join(w.dir, "observer.toml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, twoActions, w.url, quick.url, slow.url), 0o600))
	o := startObserver(t, config)
	o.leads(t)
	execute(t, w, fmt.Sprintf(`select core.emit_event('Note', '{}', 'one') from generate_series(1, %d)`, n))
	quick.reaches(t, n)
	wait(t.Context(), settleWindow()+200*time.Millisecond)
	require.Less(t, slow.size(), n, "the slow receiver has some before it")
	o.kill()
	o = startObserver(t, config)
	slow.reaches(t, n)
	code, _ := o.terminate(t)
	require.Zero(t, code)
	require.Zero(t, quick.again, "what had succeeded long before the crash is not repeated")
	require.LessOrEqual(t, slow.again, 1+int(settleWindow()/(100*time.Millisecond)), "one was running, and some had just settled")
}

// counter is a receiver that takes its time and counts deliveries by their webhook-id.
type counter struct {
	url string

	mu    sync.Mutex // guards what follows
	seen  map[string]bool
	again int
}

func newCounter(t *testing.T, takes time.Duration) *counter {
	t.Helper()
	c := &counter{seen: map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.note(r.Header.Get("webhook-id"))
		wait(t.Context(), takes)
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *counter) note(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[id] {
		c.again++
	}
	c.seen[id] = true
}

func (c *counter) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func (c *counter) reaches(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, within, func() error {
		if have := c.size(); have < n {
			return fmt.Errorf("%d of %d deliveries arrived", have, n)
		}
		return nil
	})
}
