package handlers_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

var (
	newSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("the new secret of 32 random byte"))
	oldSecret = base64.StdEncoding.EncodeToString([]byte("an old secret without prefix")) // both forms are in use
)

// wire is a request as its bytes came.
type wire struct {
	line   string
	header http.Header
	body   []byte
}

// wiretap answers every request with status, and hands out the bytes that came.
func wiretap(t *testing.T, status string) (url string, got <-chan wire) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	list, done := make(chan wire, 1000), make(chan struct{}) // no test sends more
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w, err := readWire(bufio.NewReader(c))
			if err != nil {
				t.Errorf("read request: %v", err)
			}
			list <- w
			_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String(), list
}

func readWire(r *bufio.Reader) (w wire, err error) {
	text := textproto.NewReader(r)
	if w.line, err = text.ReadLine(); err != nil {
		return w, err
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return w, err
	}
	w.header = http.Header(header)
	length, _ := strconv.Atoi(w.header.Get("Content-Length"))
	w.body = make([]byte, length)
	_, err = io.ReadFull(r, w.body)
	return w, err
}

// verify is what a receiver does that knows one secret.
func verify(secret string, w wire) error {
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return v.Verify(w.body, w.header)
}

func TestSignatureFitsTheBytesOnTheWire(t *testing.T) {
	t.Setenv("NEW_SECRET", newSecret)
	megabyte := strings.Repeat("0123456789abcdef", 1<<16)
	for name, tc := range map[string]struct {
		cfg  handlers.WebhookConfig
		data string
		want string // "": whatever came
	}{
		"the event as JSON":         {handlers.WebhookConfig{}, `{"id": 12345678901234567890}`, ""},
		"a template":                {handlers.WebhookConfig{BodyTemplate: `{"id": {{ data.id }}}`}, `{"id": 7}`, `{"id": 7}`},
		"characters of all kinds":   {handlers.WebhookConfig{BodyTemplate: `{"n": "é {{ data.n }} 😀"}`}, `{"n": "日本\u0000\ud83d\ude00\u2028<&>"}`, ""},
		"a broken half of a pair":   {handlers.WebhookConfig{BodyTemplate: `{"n": {{ data.n }}}`}, `{"n": "\ud83d"}`, ""},
		"a megabyte":                {handlers.WebhookConfig{}, `{"n": "` + megabyte + `"}`, ""},
		"text":                      {handlers.WebhookConfig{Headers: map[string]string{"Content-Type": "text/plain"}, BodyTemplate: "a\r\n{{ data.n }}"}, `{"n": "\r\n.b"}`, "a\r\n\r\n.b"},
		"an empty body":             {handlers.WebhookConfig{Headers: map[string]string{"Content-Type": "text/plain"}, BodyTemplate: "{{ data.n }}"}, `{"n": ""}`, ""},
		"GET, which has no body":    {handlers.WebhookConfig{Method: "GET"}, `{}`, ""},
		"GET with one all the same": {handlers.WebhookConfig{Method: "GET", BodyTemplate: `{{ data.n }}`}, `{"n": 1}`, "1"},
		"DELETE":                    {handlers.WebhookConfig{Method: "DELETE"}, `{"n": 1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url, got := wiretap(t, "200 OK")
			tc.cfg.URL, tc.cfg.SigningSecretEnv = secret.String(url+"/hook"), []string{"NEW_SECRET"}
			require.NoError(t, webhook(t, tc.cfg).Run(t.Context(), delivery(tc.data)))
			w := <-got
			require.NoError(t, verify(newSecret, w))
			require.Error(t, verify(oldSecret, w))
			require.Len(t, w.header["Webhook-Signature"], 1)
			require.Len(t, w.header["Webhook-Id"], 1)
			if tc.want != "" {
				require.Equal(t, tc.want, string(w.body))
			}
			if name == "an empty body" || tc.cfg.Method == http.MethodGet && tc.cfg.BodyTemplate == "" {
				require.Empty(t, w.body)
			}
		})
	}
}

func TestSignatureOfAChangedRequestFails(t *testing.T) {
	t.Setenv("NEW_SECRET", newSecret)
	url, got := wiretap(t, "200 OK")
	cfg := handlers.WebhookConfig{URL: secret.String(url), SigningSecretEnv: []string{"NEW_SECRET"}}
	require.NoError(t, webhook(t, cfg).Run(t.Context(), delivery(`{"total": 1000}`)))
	w := <-got
	for i := range w.body {
		w.body[i] ^= 1
		require.ErrorIs(t, verify(newSecret, w), standardwebhooks.ErrNoMatchingSignature, "byte %d", i)
		w.body[i] ^= 1
	}
	require.ErrorIs(t, verify(newSecret, wire{header: w.header, body: w.body[:len(w.body)-1]}), standardwebhooks.ErrNoMatchingSignature)
	require.ErrorIs(t, verify(newSecret, wire{header: w.header, body: append([]byte(" "), w.body...)}), standardwebhooks.ErrNoMatchingSignature)
	at, err := strconv.ParseInt(w.header.Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	for name, value := range map[string]string{"webhook-id": w.header.Get("webhook-id") + "x", "webhook-timestamp": strconv.FormatInt(at-1, 10)} {
		changed := w.header.Clone()
		changed.Set(name, value)
		require.ErrorIs(t, verify(newSecret, wire{header: changed, body: w.body}), standardwebhooks.ErrNoMatchingSignature, name)
	}
	require.NoError(t, verify(newSecret, w))
}

func TestSignatureWhileTheSecretChanges(t *testing.T) {
	t.Setenv("NEW_SECRET", newSecret)
	t.Setenv("OLD_SECRET", oldSecret+"\n") // as a file that ends in a line gives it
	url, got := wiretap(t, "200 OK")
	cfg := handlers.WebhookConfig{URL: secret.String(url), SigningSecretEnv: []string{"NEW_SECRET", "OLD_SECRET"}}
	require.NoError(t, webhook(t, cfg).Run(t.Context(), delivery(`{}`)))
	w := <-got
	require.NoError(t, verify(newSecret, w))
	require.NoError(t, verify(oldSecret, w))
	require.Error(t, verify(base64.StdEncoding.EncodeToString([]byte("the secret of somebody else")), w))
}

func TestSignatureOfARetryIsFresh(t *testing.T) {
	t.Setenv("NEW_SECRET", newSecret)
	url, got := wiretap(t, "503 Service Unavailable")
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(url), SigningSecretEnv: []string{"NEW_SECRET"}})
	d := delivery(`{}`)
	require.Error(t, action.Run(t.Context(), d))
	first := <-got
	testenv.Eventually(t, 5*time.Second, func() error {
		require.Error(t, action.Run(t.Context(), d))
		again := <-got
		require.NoError(t, verify(newSecret, again))
		require.Equal(t, first.header["Webhook-Id"], again.header["Webhook-Id"])
		if again.header.Get("webhook-timestamp") == first.header.Get("webhook-timestamp") {
			return errors.New("the retry has the timestamp of the first attempt")
		}
		return nil
	})
}

func TestSignatureCannotBeOverridden(t *testing.T) {
	for _, name := range []string{"webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", "idempotency-key", "traceparent", "TraceState"} {
		h, err := handlers.NewHTTP(handlers.HTTPConfig{})
		require.NoError(t, err)
		for _, value := range []string{"x", "{{ data.id }}"} {
			_, err = handlers.NewWebhook(&handlers.WebhookConfig{URL: "http://x/", Headers: map[string]string{name: value}}, handlers.Env{HTTP: h})
			require.EqualError(t, err, "headers."+name+": is set by observer and cannot be changed")
		}
	}
}

func TestSignatureSecretsThatAreNone(t *testing.T) {
	good := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 24)))
	for name, tc := range map[string]struct{ value, want string }{
		"none":                        {"", "the environment variable BAD_SECRET is not set"},
		"nothing after the prefix":    {"whsec_", "BAD_SECRET does not hold a signing secret"},
		"what is not base64":          {"whsec_" + strings.Repeat("!", 40), "BAD_SECRET does not hold a signing secret"},
		"base64 of URLs":              {"whsec_" + strings.Repeat("-_", 20), "BAD_SECRET does not hold a signing secret"},
		"a byte too short":            {"whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 23))), "BAD_SECRET does not hold a signing secret"},
		"a byte too long":             {"whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 65))), "BAD_SECRET does not hold a signing secret"},
		"text":                        {"correct horse battery staple, and more", "BAD_SECRET does not hold a signing secret"},
		"a key that only they verify": {"whpk_" + good, "BAD_SECRET does not hold a signing secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOOD_SECRET", good)
			t.Setenv("BAD_SECRET", tc.value)
			for i, names := range [][]string{{"BAD_SECRET"}, {"GOOD_SECRET", "BAD_SECRET"}} {
				err := buildError(t, handlers.WebhookConfig{URL: "http://x/", SigningSecretEnv: names})
				require.ErrorContains(t, err, fmt.Sprintf("signing_secret_env[%d]: ", i)+tc.want+" (write whsec_ and the base64 of 24 to 64 random bytes")
				require.Len(t, handlers.KeyErrors(err), 1)
				if rest := strings.TrimPrefix(tc.value, "whsec_"); rest != "" {
					require.NotContains(t, err.Error(), rest)
				}
			}
		})
	}
	t.Run("three", func(t *testing.T) {
		require.ErrorContains(t, buildError(t, handlers.WebhookConfig{URL: "http://x/", SigningSecretEnv: []string{"A", "B", "C"}}), "more than two")
	})
}

// buildError returns why an action cannot be built.
func buildError(t *testing.T, cfg handlers.WebhookConfig) error {
	t.Helper()
	h, err := handlers.NewHTTP(handlers.HTTPConfig{})
	require.NoError(t, err)
	_, err = handlers.NewWebhook(&cfg, handlers.Env{HTTP: h})
	require.Error(t, err)
	return err
}

func TestSignatureAndSecretAreNeverShown(t *testing.T) {
	t.Setenv("NEW_SECRET", newSecret)
	url, got := receiver(t, func(w http.ResponseWriter, r *http.Request) { // tells all that it was told
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "Cannot %s %s: %v", r.Method, r.RequestURI, r.Header)
	})
	action := webhook(t, handlers.WebhookConfig{
		URL:     secret.String(strings.Replace(url, "http://", "http://ada:pa55word@", 1) + "/hooks/T0K3N-in-path?key=k3y-in-query&page=two"),
		Headers: map[string]string{"Authorization": "Bearer b34rer-token", "X-Api-Key": "4pi-key"}, SigningSecretEnv: []string{"NEW_SECRET"},
	})
	err := action.Run(t.Context(), delivery(`{}`))
	signature := (<-got).header.Get("webhook-signature")
	require.NotEmpty(t, signature)
	require.ErrorContains(t, err, "403 Forbidden: Cannot POST ***: map[")
	require.ErrorContains(t, err, "Content-Type:[application/json]")
	preview, previewErr := action.(handlers.Previewer).Preview(delivery(`{}`))
	require.NoError(t, previewErr)
	shown, jsonErr := json.Marshal(preview)
	require.NoError(t, jsonErr)
	require.Contains(t, preview.Fields, handlers.PreviewField{Name: "Webhook-Signature", Value: "***"})
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(newSecret, "whsec_"))
	for _, s := range []string{strings.TrimPrefix(newSecret, "whsec_"), string(raw), "pa55word", "b34rer", "4pi-key"} {
		require.NotContains(t, err.Error(), s)
		require.NotContains(t, string(shown), s)
	}
	for _, s := range []string{signature, "T0K3N", "k3y-in-query"} {
		require.NotContains(t, err.Error(), s)
	}
	require.Equal(t, "http_403", event.Class(err))
}

func TestWebhookErrorKeepsPlainWords(t *testing.T) {
	url, _ := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "no such orders, shipped; s3gment-1 of /hooks/orders/s3gment-1 is closed")
	})
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(url + "/hooks/orders/s3gment-1?v=shipped")})
	require.EqualError(t, action.Run(t.Context(), delivery(`{}`)), "POST "+url+": 400 Bad Request: no such orders, shipped; *** of *** is closed")
}
