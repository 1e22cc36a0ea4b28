package cmd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/admin"
)

// statusServer answers /status with body, and returns a configuration that names it.
func statusServer(t *testing.T, body string) (cfg string) {
	t.Helper()
	return statusHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
}

func statusHandler(t *testing.T, h http.Handler) (cfg string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return adminAt(t, strings.TrimPrefix(server.URL, "http://"), "")
}

func adminAt(t *testing.T, address, tokenEnv string) (cfg string) {
	t.Helper()
	return file(t, "observer.toml", fmt.Sprintf("[admin]\nlisten = %q\ntoken_env = %q\n", address, tokenEnv))
}

func TestStatusTellsWhyThereIsNone(t *testing.T) {
	t.Parallel()
	nobody := silentAddress(t)
	for name, test := range map[string]struct {
		cfg  string
		code int
		says string
	}{
		"nobody listens": {adminAt(t, nobody, ""), exitRuntime, "error: no process answers at " + nobody + ": start observer run, or set [admin] listen\n"},
		"turned off":     {adminAt(t, "", ""), exitUsage, "the admin address is turned off: set [admin] listen"},
		"another server": {statusHandler(t, http.NotFoundHandler()), exitRuntime, "does not answer as an observer of this version does: 404 Not Found"},
		"a page":         {statusServer(t, "<html>"), exitRuntime, "does not answer as an observer"},
		"other JSON":     {statusServer(t, `{"status": "UP"}`), exitRuntime, "its JSON is another"},
		"a redirect":     {statusHandler(t, http.RedirectHandler("/login", http.StatusFound)), exitRuntime, "302 Found"},
		"not HTTP": {statusHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "-ERR unknown command\r\n")
				_ = conn.Close()
			}
		})), exitRuntime, "does not answer as an observer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, more := range [][]string{nil, {"--watch"}} {
				r := observer(t, "", append([]string{"status", "--config", test.cfg}, more...)...)
				require.Equal(t, test.code, r.code)
				require.Contains(t, r.err, test.says)
				require.Empty(t, r.out)
			}
		})
	}
}

func TestStatusNeedsTheTokenOfTheProcess(t *testing.T) {
	t.Setenv("PROCESS_TOKEN", "s3cret")
	t.Setenv("OTHER_TOKEN", "guess")
	server, err := admin.Listen(admin.Config{
		Address: "127.0.0.1:0", TokenEnv: "PROCESS_TOKEN", Gatherer: prometheus.NewRegistry(), Health: admin.NewHealth(), Log: slog.New(slog.DiscardHandler),
		Status: func() any {
			return map[string]any{"transport": "nats", "ready": true, "roles": []map[string]string{{"role": "worker"}}}
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	for variable, says := range map[string]string{
		"":              "asks for a token: name the variable that holds it in [admin] token_env",
		"MISSING_TOKEN": "asks for a token: set MISSING_TOKEN",
		"OTHER_TOKEN":   "refuses the token: set OTHER_TOKEN to the one that it was started with",
	} {
		r := observer(t, "", "status", "--config", adminAt(t, server.Addr(), variable))
		require.Equal(t, exitRuntime, r.code)
		require.Contains(t, r.err, says)
		require.NotContains(t, r.err, "guess")
	}
	require.Contains(t, succeeds(t, "status", "--config", adminAt(t, server.Addr(), "PROCESS_TOKEN")), "transport nats")
}

func TestWhatListensOnEveryAddressIsAskedOnThisMachine(t *testing.T) {
	t.Parallel()
	for listen, asked := range map[string]string{
		":7077": "127.0.0.1:7077", "0.0.0.0:7077": "127.0.0.1:7077", "[::]:7077": "127.0.0.1:7077",
		"localhost:7077": "localhost:7077", "10.0.0.5:7077": "10.0.0.5:7077", "[::1]:7077": "[::1]:7077",
	} {
		require.Equal(t, asked, reachable(listen), listen)
	}
}

func TestAWatchOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	cfg := statusHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"transport": "postgres", "roles": [{"role": "listener"}]}`)
	}))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, errOut := &screen{mark: "transport postgres", blocks: 2, reached: interrupt}, bytes.Buffer{}
	require.Equal(t, exitOK, execute(ctx, []string{"status", "--watch", "--interval", "100ms", "--config", cfg}, nil, out, &errOut))
	require.Contains(t, errOut.String(), "502 Bad Gateway")
	require.GreaterOrEqual(t, asked.Load(), int64(3))
}
