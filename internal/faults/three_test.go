package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestARetryRepeatsItsOwnActionOnly has an observer of three actions, of which the second fails twice.
func TestARetryRepeatsItsOwnActionOnly(t *testing.T) {
	scenario(t)
	for _, concurrent := range []bool{true, false} {
		for _, onRetry := range []string{"overtake", "hold"} {
			t.Run(fmt.Sprintf("concurrent %t, %s", concurrent, onRetry), func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				calls := map[string]int{}
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					calls[r.URL.Path]++
					if r.URL.Path == "/second" && calls[r.URL.Path] <= 2 {
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				}))
				t.Cleanup(server.Close)
				url := captured.Postgres(t)
				var text strings.Builder
				fmt.Fprintf(&text, "[transport]\ntransport = \"postgres\"\n[transport.postgres]\nurl = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n[performance]\nenable_concurrent = %t\n[[observers]]\nname = \"three\"\nentity = \"E\"\non_retry = %q\n[observers.retry]\ninitial_delay_ms = 50\n", url, concurrent, onRetry)
				for _, path := range []string{"first", "second", "third"} {
					fmt.Fprintf(&text, "[[observers.actions]]\ntype = \"webhook\"\nname = %q\nurl = \"%s/%s\"\n", path, server.URL, path)
				}
				name := filepath.Join(t.TempDir(), "observer.toml")
				require.NoError(t, os.WriteFile(name, []byte(text.String()), 0o600))
				o := startObserver(t, name)
				o.leads(t)
				_, err := queryURL[string](t.Context(), url, `select core.emit_event('E', '{}', '7')::text`)
				require.NoError(t, err)
				testenv.Eventually(t, within, func() error {
					left, err := queryURL[int64](t.Context(), url, `select count(*) from core.tb_observer_retry`)
					mu.Lock()
					defer mu.Unlock()
					if err == nil && (left > 0 || calls["/second"] < 3) {
						err = fmt.Errorf("%d parked, calls %v", left, calls)
					}
					return err
				})
				code, _ := o.terminate(t)
				require.Zero(t, code)
				require.Equal(t, map[string]int{"/first": 1, "/second": 3, "/third": 1}, calls)
			})
		}
	}
}
