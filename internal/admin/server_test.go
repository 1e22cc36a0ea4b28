package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/admin"
)

func listen(t *testing.T, tokenEnv string) (*admin.Health, func(path, token string) (int, string)) {
	t.Helper()
	health := admin.NewHealth()
	s, err := admin.Listen(admin.Config{
		Address: "127.0.0.1:0", TokenEnv: tokenEnv, Gatherer: prometheus.NewRegistry(), Health: health, Log: slog.New(slog.DiscardHandler),
		Status: func() any { return map[string]string{"transport": "postgres"} },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return health, func(path, token string) (int, string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.Addr()+path, nil)
		require.NoError(t, err)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
}

func TestReadyzSaysWhyAndSinceWhen(t *testing.T) {
	health, get := listen(t, "")
	code, body := get("/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, `"check":"start"`)

	health.Become("leader")
	code, body = get("/readyz", "")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status": "leader"}`, body)

	health.Fail("postgres", "connection refused", "start it")
	since := time.Now()
	health.Fail("postgres", "still refused", "start it")
	code, body = get("/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	var got struct{ Reasons []admin.Reason }
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Len(t, got.Reasons, 1)
	require.Equal(t, "still refused", got.Reasons[0].Error)
	require.Equal(t, "start it", got.Reasons[0].Fix)
	require.False(t, got.Reasons[0].Since.After(since), "the first failure's time stays")

	health.OK("postgres")
	code, _ = get("/readyz", "")
	require.Equal(t, http.StatusOK, code)
}

func TestReadyzStaysReadyWhileTheWorkGoesOn(t *testing.T) {
	health, get := listen(t, "")
	health.Become("leader")
	health.Degrade("redis", "connection refused", "start it")
	since := time.Now()
	health.Degrade("redis", "still refused", "start it")
	code, body := get("/readyz", "")
	require.Equal(t, http.StatusOK, code)
	var got struct {
		Status  string
		Reasons []admin.Reason
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, admin.Degraded, got.Status)
	require.Len(t, got.Reasons, 1)
	require.Equal(t, "redis", got.Reasons[0].Check)
	require.Equal(t, "still refused", got.Reasons[0].Error)
	require.Equal(t, "start it", got.Reasons[0].Fix)
	require.False(t, got.Reasons[0].Since.After(since), "the first failure's time stays")

	health.Fail("postgres", "connection refused", "")
	code, body = get("/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, code, "what is needed is away as well")
	require.Contains(t, body, `"status":"leader"`)
	require.Contains(t, body, `"check":"redis"`)
	require.Contains(t, body, `"check":"postgres"`)

	health.OK("postgres")
	code, body = get("/readyz", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `"status":"degraded"`)
	health.OK("redis")
	_, body = get("/readyz", "")
	require.JSONEq(t, `{"status": "leader"}`, body)
}

func TestAProcessThatStartsIsNotReadyBecauseItCouldDoWithout(t *testing.T) {
	health, get := listen(t, "")
	health.Degrade("redis", "connection refused", "")
	code, body := get("/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, `"status":"starting"`)
}

func TestOnlyHealthNeedsNoToken(t *testing.T) {
	t.Setenv("ADMIN_TOKEN", "s3cret")
	health, get := listen(t, "ADMIN_TOKEN")
	health.Become("leader")
	for name, tc := range map[string]struct {
		path, token string
		want        int
	}{
		"health":                  {"/healthz", "", http.StatusOK},
		"readiness":               {"/readyz", "", http.StatusOK},
		"metrics without a token": {"/metrics", "", http.StatusUnauthorized},
		"metrics with another":    {"/metrics", "guess", http.StatusUnauthorized},
		"metrics with the token":  {"/metrics", "s3cret", http.StatusOK},
		"status without a token":  {"/status", "", http.StatusUnauthorized},
		"status with another":     {"/status", "guess", http.StatusUnauthorized},
		"status with the token":   {"/status", "s3cret", http.StatusOK},
		"what does not exist":     {"/debug/pprof", "s3cret", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			code, _ := get(tc.path, tc.token)
			require.Equal(t, tc.want, code)
		})
	}
}

func TestStatusAnswersWhatTheProcessTells(t *testing.T) {
	_, get := listen(t, "")
	code, body := get("/status", "")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"transport": "postgres"}`, body)
}

func TestListenSaysWhatToDoWhenTheAddressIsTaken(t *testing.T) {
	cfg := admin.Config{Address: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Health: admin.NewHealth(), Log: slog.New(slog.DiscardHandler)}
	first, err := admin.Listen(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, first.Close()) })
	cfg.Address = first.Addr()
	_, err = admin.Listen(cfg)
	require.ErrorContains(t, err, "address already in use (choose another in [admin] listen")
}
