package handlers

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/fraiseql/observer/internal/http1"
)

// Limits of a request, besides the time for the whole attempt.
const (
	dialTimeout  = 10 * time.Second
	tlsTimeout   = 10 * time.Second
	idleTimeout  = 90 * time.Second
	drainTimeout = 500 * time.Millisecond // for the rest of an answer whose status is known
	maxReply     = 64 << 10               // bytes of an answer that are read to keep its connection
	maxSaid      = 512                    // bytes of an answer that an error keeps
	maxHeaders   = 64 << 10
)

// HTTPConfig says how an [HTTP] is built.
type HTTPConfig struct {
	Guard       *Guard // nil stands for the default one
	Concurrency int    // requests at the same time, which is the number of connections kept for each server
	Version     string // of the program, for User-Agent
}

// HTTP sends the requests of all actions over one pool of connections. It follows no redirect, asks no proxy, and speaks
// HTTP/1.1, where a stuck connection holds up one request only.
type HTTP struct {
	plain     *http1.Transport
	secure    secure // for what plain does not handle
	guard     *Guard
	dialer    net.Dialer
	userAgent string
}

// NewHTTP builds an HTTP; close it when no action runs any more.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	if cfg.Guard == nil {
		guard, err := NewGuard(SecurityConfig{})
		if err != nil {
			return nil, err
		}
		cfg.Guard = guard
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	h := &HTTP{
		guard:     cfg.Guard,
		dialer:    net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second},
		userAgent: "observer/" + cfg.Version,
	}
	h.plain = &http1.Transport{Dial: h.dial, MaxIdlePerHost: max(cfg.Concurrency, 1), IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders}
	h.secure.transport = &http.Transport{
		DialContext:            h.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    tlsTimeout,
		DisableCompression:     true, // answers are thrown away
		MaxIdleConnsPerHost:    max(cfg.Concurrency, 1),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaders,
	}
	return h, nil
}

// Close closes the connections that are kept.
func (h *HTTP) Close() {
	h.plain.Close()
	h.secure.transport.CloseIdleConnections()
}

func (h *HTTP) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := h.dialer
	d.Control = h.guard.Control(host)
	return d.DialContext(ctx, network, address)
}

// send sends a request and returns its outcome. As soon as the status of the answer is known it counts; of the body, a
// bounded part is read for a bounded time, so that the connection can be used again and that an error holds what the
// receiver said.
func (h *HTTP) send(ctx context.Context, r *http1.Request, limit time.Duration) error {
	answer, err := h.do(ctx, r, limit)
	if err != nil {
		return requestError(ctx, err)
	}
	said := ""
	if answer.Length != 0 {
		answer.Body.Limit(drainTimeout)
		if !succeeded(answer) {
			said = readSaid(answer.Body)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxReply+1)) // the status counts; what is wrong here costs a connection
	}
	_ = answer.Body.Close() // nothing was written
	return statusError(answer, said)
}

func (h *HTTP) do(ctx context.Context, r *http1.Request, limit time.Duration) (*http1.Answer, error) {
	if http1.Handles(r.URL) {
		return h.plain.Do(ctx, r, limit)
	}
	return h.secure.do(ctx, r, limit)
}
