package handlers

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
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
	transport *http.Transport
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
	h.transport = &http.Transport{
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
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }

func (h *HTTP) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := h.dialer
	d.Control = h.guard.Control(host)
	return d.DialContext(ctx, network, address)
}

// send sends a request, whose context cancel ends, and returns its outcome. As soon as the status of the answer is known
// it counts; of the body, a bounded part is read for a bounded time, so that the connection can be used again and that an
// error holds what the receiver said.
func (h *HTTP) send(ctx context.Context, req *http.Request, limit time.Duration, cancel func()) error {
	clock := time.AfterFunc(limit, cancel)
	defer clock.Stop()
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return requestError(ctx, req.Context(), err)
	}
	said := ""
	if resp.ContentLength != 0 {
		clock.Reset(drainTimeout)
		if !succeeded(resp) {
			said = readSaid(resp.Body)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply+1)) // the status counts; what is wrong here costs a connection
	}
	_ = resp.Body.Close() // nothing was written
	return statusError(resp, said)
}
