package handlers_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

// received is what a receiver got.
type received struct {
	method, path, host string
	header             http.Header
	body               []byte
}

// receiver answers every request with answer, and hands out what it got.
func receiver(t *testing.T, answer http.HandlerFunc) (url string, got <-chan received) {
	t.Helper()
	list := make(chan received, 100) // no test sends more
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read body: %v", err)
		}
		list <- received{r.Method, r.URL.RequestURI(), r.Host, r.Header, body}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, list
}

func webhook(t *testing.T, cfg handlers.WebhookConfig) handlers.Action {
	t.Helper()
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: 4, Version: "1.2.3"})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	action, err := handlers.NewWebhook(&cfg, handlers.Env{HTTP: h, Timeout: 5 * time.Second})
	require.NoError(t, err)
	return action
}

func TestWebhookSendsTheEvent(t *testing.T) {
	url, got := receiver(t, nil)
	d := delivery(`{"id": 12345678901234567890}`)
	require.NoError(t, webhook(t, handlers.WebhookConfig{URL: secret.String(url + "/hook?token=t")}).Run(t.Context(), d))
	r := <-got
	require.Equal(t, "POST", r.method)
	require.Equal(t, "/hook?token=t", r.path)
	require.Equal(t, string(d.Event.JSON()), string(r.body))
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.Equal(t, "observer/1.2.3", r.header.Get("User-Agent"))
	require.Equal(t, d.Event.ID+"_order-shipped_notify", r.header.Get("webhook-id"))
	require.Equal(t, r.header.Get("webhook-id"), r.header.Get("Idempotency-Key"))
	seconds, err := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(seconds, 0), time.Minute)
	require.Empty(t, r.header.Get("Accept-Encoding"))
}

func TestWebhookRendersWhatTheFileSays(t *testing.T) {
	url, got := receiver(t, nil)
	action := webhook(t, handlers.WebhookConfig{
		URL: secret.String(strings.Replace(url, "http://", "http://ada:pass@", 1) + "/{{ data.path }}?id={{ data.id }}"), Method: "PUT",
		Headers:      map[string]string{"X-Status": "s-{{ data.status }}", "x-token": "t0ken", "User-Agent": "mine"},
		BodyTemplate: `{"id": {{ data.id }}, "all": {{ event.data }}}`,
	})
	require.NoError(t, action.Run(t.Context(), delivery(`{"id": 7, "status": "new", "path": "a/b c"}`)))
	r := <-got
	require.Equal(t, "PUT", r.method)
	require.Equal(t, "/a%2Fb%20c?id=7", r.path)
	require.Equal(t, "s-new", r.header.Get("X-Status"))
	require.Equal(t, "t0ken", r.header.Get("X-Token"))
	require.Equal(t, "mine", r.header.Get("User-Agent"))
	require.Equal(t, "Basic YWRhOnBhc3M=", r.header.Get("Authorization"))
	require.JSONEq(t, `{"id": 7, "all": {"id": 7, "status": "new", "path": "a/b c"}}`, string(r.body))
}

func TestWebhookReadsItsURLFromTheEnvironment(t *testing.T) {
	url, got := receiver(t, nil)
	t.Setenv("HOOK_URL", url+"/from-env")
	require.NoError(t, webhook(t, handlers.WebhookConfig{URLEnv: "HOOK_URL"}).Run(t.Context(), delivery(`{}`)))
	require.Equal(t, "/from-env", (<-got).path)
}

func TestWebhookEncodesTheBodyAsItsContentTypeSays(t *testing.T) {
	url, got := receiver(t, nil)
	for contentType, want := range map[string]string{
		"application/x-www-form-urlencoded": "v=a%22%26b", "text/plain; charset=utf-8": `v=a"&b`,
	} {
		action := webhook(t, handlers.WebhookConfig{URL: secret.String(url), Headers: map[string]string{"content-type": contentType}, BodyTemplate: "v={{ data.v }}"})
		require.NoError(t, action.Run(t.Context(), delivery(`{"v": "a\"&b"}`)))
		r := <-got
		require.Equal(t, want, string(r.body))
		require.Equal(t, []string{contentType}, r.header["Content-Type"])
	}
}

func TestWebhookGetHasNoBody(t *testing.T) {
	url, got := receiver(t, nil)
	require.NoError(t, webhook(t, handlers.WebhookConfig{URL: secret.String(url), Method: "GET"}).Run(t.Context(), delivery(`{}`)))
	r := <-got
	require.Equal(t, "GET", r.method)
	require.Empty(t, r.body)
}

func TestWebhookCancelledByShutdownStaysRecognisable(t *testing.T) {
	release := make(chan struct{})
	url, got := receiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-got
		cancel()
	}()
	err := webhook(t, handlers.WebhookConfig{URL: secret.String(url)}).Run(ctx, delivery(`{}`))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, event.IsPermanent(err))
}

func TestWebhookUsesItsConnectionAgain(t *testing.T) {
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 60<<10))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(server.URL)})
	for range 5 {
		require.Error(t, action.Run(t.Context(), delivery(`{}`)))
	}
	require.Equal(t, int64(1), opened.Load())
}

func TestWebhookSurvivesAConnectionThatTheServerClosed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(server.URL)})
	for range 20 {
		require.NoError(t, action.Run(t.Context(), delivery(`{}`)))
		server.CloseClientConnections()
	}
}

func TestWebhookToAnAddressThatTheGuardBlocksIsAMistakeInTheFile(t *testing.T) {
	for name, tc := range map[string]struct {
		url, networks string
		allow         []string
		want          string
	}{
		"metadata":                    {"http://169.254.169.254/x", "always", nil, "url: address 169.254.169.254 serves cloud metadata"},
		"metadata with a placeholder": {"http://169.254.169.254/{{ data.id }}", "static", nil, "serves cloud metadata"},
		"metadata that is allowed":    {"http://169.254.169.254/x", "static", []string{"169.254.169.254/32"}, ""},
		"a private address":           {"http://10.0.0.1/x", "never", nil, "address 10.0.0.1 is not public"},
		"one over IPv6":               {"http://[::1]:80/x", "never", nil, "address ::1 is not public"},
		"one where the file may":      {"http://10.0.0.1/x", "static", nil, ""},
		"a name":                      {"http://localhost/x", "never", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			guard, err := handlers.NewGuard(handlers.SecurityConfig{PrivateNetworks: tc.networks, AllowCIDRs: tc.allow})
			require.NoError(t, err)
			h, err := handlers.NewHTTP(handlers.HTTPConfig{Guard: guard})
			require.NoError(t, err)
			_, err = handlers.NewWebhook(&handlers.WebhookConfig{URL: secret.String(tc.url)}, handlers.Env{HTTP: h})
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.Len(t, handlers.KeyErrors(err), 1)
		})
	}
}

func TestWebhookErrorHoldsWhatTheReceiverSaid(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"JSON":                     {`{"reason":"no such order"}`, `400 Bad Request: {"reason":"no such order"}`},
		"lines and controls":       {" no\r\nsuch\x1b[31m\u2028order\x00 ", "400 Bad Request: no  such [31m order"},
		"what is no text":          {"a\xff\xfeb", "400 Bad Request: a?b"},
		"much":                     {strings.Repeat("é", 1000), "400 Bad Request: " + strings.Repeat("é", 256) + "…"},
		"much, cut in a character": {"x" + strings.Repeat("é", 1000), "400 Bad Request: x" + strings.Repeat("é", 255) + "…"},
		"just enough":              {strings.Repeat("x", 512), "400 Bad Request: " + strings.Repeat("x", 512)},
		"nothing":                  {"", "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, tc.body)
			})
			err := webhook(t, handlers.WebhookConfig{URL: secret.String(url)}).Run(t.Context(), delivery(`{}`))
			require.EqualError(t, err, "POST "+url+": "+tc.want)
			require.True(t, event.IsPermanent(err))
		})
	}
}

func TestWebhookErrorHoldsWhatTheReceiverSaidInTime(t *testing.T) {
	release := make(chan struct{})
	url, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	err := webhook(t, handlers.WebhookConfig{URL: secret.String(url)}).Run(t.Context(), delivery(`{}`))
	require.EqualError(t, err, "POST "+url+": 502 Bad Gateway: half")
}

func TestWebhookPathCannotClimb(t *testing.T) {
	url, got := receiver(t, nil)
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(url + "/users/{{ data.id }}/orders")})
	for _, id := range []string{`".."`, `"."`, `"../admin"`, `"x/../../admin"`, `"..\\admin"`} {
		err := action.Run(t.Context(), delivery(`{"id": `+id+`}`))
		require.True(t, event.IsPermanent(err), "%v", err)
	}
	require.NoError(t, action.Run(t.Context(), delivery(`{"id": "..x"}`)))
	require.Len(t, got, 1)
}

func TestWebhookTemplateErrorsSendNothing(t *testing.T) {
	url, got := receiver(t, nil)
	for name, cfg := range map[string]handlers.WebhookConfig{
		"url":    {URL: secret.String(url + "/{{ data.nope }}")},
		"header": {URL: secret.String(url), Headers: map[string]string{"X-A": "{{ data.crlf }}"}},
		"body":   {URL: secret.String(url), BodyTemplate: "{{ data.nope }}"},
	} {
		err := webhook(t, cfg).Run(t.Context(), delivery(`{"crlf": "a\r\nb"}`))
		require.True(t, event.IsPermanent(err), name)
		require.Equal(t, "template", event.Class(err), name)
	}
	require.Empty(t, got)
}

func TestWebhookConfigErrorsNameTheirKeyAndHideTheirValue(t *testing.T) {
	h, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		cfg  handlers.WebhookConfig
		keys []string
		want string
	}{
		"no url":                   {handlers.WebhookConfig{}, []string{"url"}, "is missing"},
		"a variable that is unset": {handlers.WebhookConfig{URLEnv: "NOT_SET_ANYWHERE"}, []string{"url_env"}, "NOT_SET_ANYWHERE is not set"},
		"a scheme of its own":      {handlers.WebhookConfig{URL: "ftp://s3cret/x"}, []string{"url"}, "no http or https URL"},
		"no host":                  {handlers.WebhookConfig{URL: "http:///s3cret"}, []string{"url"}, "has no host"},
		"no URL":                   {handlers.WebhookConfig{URL: "http://a b/s3cret"}, []string{"url"}, "is not a URL"},
		"a port that is too large": {handlers.WebhookConfig{URL: "http://x:65536/s3cret"}, []string{"url"}, "has a port that is none"},
		"port 0":                   {handlers.WebhookConfig{URL: "http://x:0/s3cret"}, []string{"url"}, "has a port that is none"},
		"a placeholder as host":    {handlers.WebhookConfig{URL: "https://{{ data.host }}/s3cret"}, []string{"url"}, "before the path"},
		"a placeholder in a host":  {handlers.WebhookConfig{URL: "https://s3cret{{ data.host }}/x"}, []string{"url"}, "before the path"},
		"a placeholder as user":    {handlers.WebhookConfig{URL: "https://{{ data.u }}:s3cret@x/y"}, []string{"url"}, "before the path"},
		"a placeholder as scheme":  {handlers.WebhookConfig{URL: "{{ data.u }}s3cret"}, []string{"url"}, "before the path"},
		"several mistakes": {handlers.WebhookConfig{
			URL: "nothing", BodyTemplate: "{", Headers: map[string]string{"a b": "s3cret", "host": "s3cret", "webhook-id": "s3cret", "X-A": "s3cret\r\n", "X-B": "s3cret{{"},
		}, []string{"url", "headers.X-A", "headers.X-B", `headers."a b"`, "headers.host", "headers.webhook-id", "body_template"}, "cannot be changed"},
		"two names that differ in case only": {handlers.WebhookConfig{URL: "http://x/", Headers: map[string]string{
			"Content-Type": "text/plain", "content-type": "application/json", "X-A": "s3cret", "x-a": "s3cret",
		}}, []string{"headers.content-type", "headers.x-a"}, "is the same header as Content-Type: keep one of them"},
		"a content type from a row": {handlers.WebhookConfig{URL: "http://x/", Headers: map[string]string{"content-type": "{{ data.x }}"}}, []string{"headers.content-type"}, "cannot hold placeholders"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.NewWebhook(&tc.cfg, handlers.Env{HTTP: h})
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "s3cret")
			var keys []string
			for _, k := range handlers.KeyErrors(err) {
				keys = append(keys, k.Key)
			}
			require.Equal(t, tc.keys, keys)
		})
	}
}

func TestWebhookTimeout(t *testing.T) {
	for ms, want := range map[int]time.Duration{0: 5 * time.Second, 250: 250 * time.Millisecond} {
		limited, ok := webhook(t, handlers.WebhookConfig{URL: "http://x", TimeoutMS: ms}).(interface{ Timeout() time.Duration })
		require.True(t, ok)
		require.Equal(t, want, limited.Timeout())
	}
}
