package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/http1"
)

// Webhook is the action that sends a delivery to a URL. Every attempt of a delivery carries the same webhook-id.
type Webhook struct {
	http    *HTTP
	target  *target
	headers *headers
	body    *Template // nil: the event as JSON
	method  string
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
	if w.method = cfg.Method; w.method == "" {
		w.method = http.MethodPost
	}
	w.bare = w.method == http.MethodGet && w.body == nil
	w.headers.authorize(w.target)
	w.headers.arrange()
	return w, nil
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
	r, err := w.request(d)
	if err != nil {
		return err
	}
	if err := w.http.send(ctx, r, w.timeout); err != nil {
		return fmt.Errorf("%s %s: %w", w.method, w.target.origin, err)
	}
	return nil
}

func (w *Webhook) request(d *event.Delivery) (*http1.Request, error) {
	r := &http1.Request{Method: w.method}
	var err error
	if r.URL, err = w.target.of(d.Event); err != nil {
		return nil, err
	}
	if r.Header, err = w.headers.of(d); err != nil {
		return nil, err
	}
	if !w.bare {
		r.Body, err = w.payload(d.Event)
	}
	return r, err
}

func (w *Webhook) payload(e *event.Event) ([]byte, error) {
	if w.body == nil {
		return e.JSON(), nil
	}
	return w.body.Render(e)
}

func timestamp() string { return strconv.FormatInt(time.Now().Unix(), 10) }
