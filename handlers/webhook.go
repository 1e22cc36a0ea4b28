package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/fraiseql/observer/event"
)

// Webhook is the action that sends a delivery to a URL. Every attempt of a delivery carries the same webhook-id.
type Webhook struct {
	http    *HTTP
	target  *target
	headers *headers
	body    *Template // nil: the event as JSON
	base    http.Request
	bare    bool // without a body
	timeout time.Duration
}

// NewWebhook builds the action from its keys.
func NewWebhook(cfg *WebhookConfig, env Env) (Action, error) {
	if env.HTTP == nil {
		return nil, errors.New("build webhook: no HTTP client is given")
	}
	w := &Webhook{http: env.HTTP, timeout: env.Timeout}
	if cfg.TimeoutMS > 0 {
		w.timeout = time.Duration(cfg.TimeoutMS) * time.Millisecond
	}
	if w.timeout <= 0 {
		w.timeout = 30 * time.Second
	}
	var targetErr, headersErr, bodyErr error
	w.target, targetErr = newTarget(cfg, env.HTTP.guard)
	w.headers, headersErr = newHeaders(cfg.Headers, env.HTTP.userAgent)
	w.body, bodyErr = newBody(cfg)
	if err := errors.Join(targetErr, headersErr, bodyErr); err != nil {
		return nil, err
	}
	w.prepare(cfg)
	return w, nil
}

// prepare builds what every request has in common.
func (w *Webhook) prepare(cfg *WebhookConfig) {
	method := cfg.Method
	if method == "" {
		method = http.MethodPost
	}
	w.bare = method == http.MethodGet && w.body == nil
	w.base = http.Request{
		Method: method, URL: w.target.fixed, Host: w.target.fixed.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	w.headers.authorize(w.target)
}

func newBody(cfg *WebhookConfig) (*Template, error) {
	if cfg.BodyTemplate == "" {
		return nil, nil //nolint:nilnil // nil is the event as JSON
	}
	t, err := CompileTemplate(cfg.BodyTemplate, bodyPosition(cfg.Headers))
	if err != nil {
		return nil, &KeyError{Key: "body_template", Err: err}
	}
	return t, nil
}

// Timeout returns the time that one attempt may take.
func (w *Webhook) Timeout() time.Duration { return w.timeout }

// Run sends the delivery once. Its errors name scheme and host of the URL, never the rest, which may hold a secret.
func (w *Webhook) Run(ctx context.Context, d *event.Delivery) error {
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := w.request(attempt, d)
	if err != nil {
		return err
	}
	if err := w.http.send(ctx, req, w.timeout, cancel); err != nil {
		return fmt.Errorf("%s %s: %w", w.base.Method, w.target.origin, err)
	}
	return nil
}

func (w *Webhook) request(ctx context.Context, d *event.Delivery) (*http.Request, error) {
	req := w.base.WithContext(ctx) // the header and the body are set anew; nothing else of it changes
	var err error
	if req.URL, err = w.target.of(d.Event); err != nil {
		return nil, err
	}
	if req.Header, err = w.headers.of(d); err != nil {
		return nil, err
	}
	if w.bare {
		return req, nil
	}
	body, err := w.payload(d.Event)
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body)) // net/http knows this form to be in memory, and sends it together with the headers
	// The transport sends again, on a new connection, what met one that the server had just closed.
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req, nil
}

func (w *Webhook) payload(e *event.Event) ([]byte, error) {
	if w.body == nil {
		return e.JSON(), nil
	}
	return w.body.Render(e)
}

func timestamp() string { return strconv.FormatInt(time.Now().Unix(), 10) }
