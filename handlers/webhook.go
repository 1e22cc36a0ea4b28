package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/http1"
	"github.com/fraiseql/observer/internal/secret"
)

// Webhook is the action that sends a delivery to a URL. Every attempt of a delivery carries the same webhook-id.
type Webhook struct {
	client  client
	target  *target
	headers *headers
	payload func(*event.Event) ([]byte, error) // nil: a request without a body
	method  string
	timeout time.Duration
	gate    gate
	secret  bool   // the body holds what must not be shown
	keys    []byte // hash of the action's table, where it is cacheable
}

// NewWebhook builds the action from its keys.
func NewWebhook(cfg *WebhookConfig, env Env) (Action, error) {
	method := cfg.Method
	if method == "" {
		method = http.MethodPost
	}
	w, err := newPoster(addressKeys{"url", cfg.URL, "url_env", cfg.URLEnv}, method, cfg.Headers, tlsFiles{cfg.TLSCA, cfg.TLSCert, cfg.TLSKey}, env)
	payload, bodyErr := newPayload(cfg)
	signer, signerErr := newSigner(cfg.SigningSecretEnv)
	if err := errors.Join(err, bodyErr, signerErr); err != nil {
		return nil, err
	}
	if method != http.MethodGet || cfg.BodyTemplate != "" {
		w.payload = payload
	}
	if cfg.TimeoutMS > 0 {
		w.timeout = time.Duration(cfg.TimeoutMS) * time.Millisecond
	}
	w.headers.signer = signer
	w.secret = env.hides("body_template")
	w.gate = newGate(cfg.RateLimit, cfg.MaxInFlight)
	if cfg.Cacheable {
		if w.keys, err = hashKeys(cfg, w.headers, env); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// newPoster builds what every action that sends HTTP requests has. The caller sets the payload.
func newPoster(address addressKeys, method string, extra map[string]string, files tlsFiles, env Env) (*Webhook, error) {
	if env.HTTP == nil {
		return nil, errors.New("build action: no HTTP client is given")
	}
	w := &Webhook{method: method, timeout: env.Timeout}
	if w.timeout <= 0 {
		w.timeout = 30 * time.Second
	}
	var targetErr, headersErr, clientErr error
	w.target, targetErr = newTarget(address, env)
	w.headers, headersErr = newHeaders(extra, env.HTTP.userAgent)
	w.client, clientErr = env.HTTP.client(files)
	if err := errors.Join(targetErr, headersErr, clientErr); err != nil {
		return nil, err
	}
	w.headers.authorize(w.target)
	w.headers.arrange()
	return w, nil
}

func newPayload(cfg *WebhookConfig) (func(*event.Event) ([]byte, error), error) {
	if cfg.BodyTemplate == "" {
		return func(e *event.Event) ([]byte, error) { return e.JSON(), nil }, nil
	}
	t, err := CompileTemplate(cfg.BodyTemplate, bodyPosition(cfg.Headers))
	if err != nil {
		return nil, &KeyError{Key: "body_template", Err: err}
	}
	return t.Render, nil
}

// Timeout returns the time that one attempt may take.
func (w *Webhook) Timeout() time.Duration { return w.timeout }

// Endpoint names the server: scheme, host and port.
func (w *Webhook) Endpoint() string { return w.target.origin }

// Run sends the delivery once. Its errors name scheme and host of the URL, never the rest, which may hold a secret.
func (w *Webhook) Run(ctx context.Context, d *event.Delivery) error {
	if w.gate.open() {
		return w.send(ctx, d)
	}
	return w.wait(ctx, d)
}

func (w *Webhook) wait(ctx context.Context, d *event.Delivery) error {
	if err := w.gate.enter(ctx); err != nil {
		return err
	}
	defer w.gate.leave()
	return w.send(ctx, d)
}

func (w *Webhook) send(ctx context.Context, d *event.Delivery) error {
	r, err := w.request(d)
	if err != nil {
		return err
	}
	traceTo(ctx, r)
	if err := w.client.send(ctx, r, w.timeout); err != nil {
		return w.named(err)
	}
	return nil
}

func (w *Webhook) named(err error) error {
	return fmt.Errorf("%s %s: %w", w.method, w.target.origin, err)
}

func (w *Webhook) request(d *event.Delivery) (*http1.Request, error) {
	r := &http1.Request{Method: w.method}
	var err error
	if r.URL, err = w.target.of(d.Event); err != nil {
		return nil, err
	}
	if w.payload != nil {
		if r.Body, err = w.payload(d.Event); err != nil {
			return nil, err
		}
	}
	r.Header, err = w.headers.of(d, r.Body)
	return r, err
}

// Preview implements [Previewer].
func (w *Webhook) Preview(d *event.Delivery) (Preview, error) {
	r, err := w.request(d)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Request: w.method + " " + w.target.shown(r.URL), Body: string(r.Body)}
	for _, f := range r.Header {
		if !slices.Contains(openHeaders, f.Name) {
			f.Value = secret.Mask
		}
		p.Fields = append(p.Fields, PreviewField(f))
	}
	if w.secret {
		p.Body = secret.Mask
	}
	return p, nil
}

// openHeaders are those whose values hold no secret.
var openHeaders = []string{"Content-Type", "User-Agent", "Webhook-Id", "Webhook-Timestamp", "Idempotency-Key"}

func timestamp() string { return strconv.FormatInt(time.Now().Unix(), 10) }
