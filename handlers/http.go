package handlers

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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
	maxRead      = 4 << 10                // bytes of an answer that are searched for secrets before
	minSecret    = 6                      // bytes of a text that is taken for a secret
	maxHeaders   = 64 << 10
)

// HTTPConfig says how an [HTTP] is built.
type HTTPConfig struct {
	Guard       *Guard // nil stands for the default one
	Concurrency int    // requests at the same time, which is the number of connections kept for each server
	Version     string // of the program, for User-Agent
}

// HTTP sends the requests of all actions over one pool of connections. It follows no redirect and asks no proxy. Over TLS it
// speaks HTTP/2 with servers that do.
type HTTP struct {
	plain     *http1.Transport
	guard     *Guard
	dialer    net.Dialer
	userAgent string
	perHost   int // connections kept

	mu     sync.Mutex // guards what follows
	secure map[tlsFiles]*secure
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
		perHost:   max(cfg.Concurrency, 1),
		secure:    map[tlsFiles]*secure{},
	}
	h.plain = &http1.Transport{Dial: h.dial, MaxIdlePerHost: h.perHost, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders}
	return h, nil
}

// Close closes the connections that are kept.
func (h *HTTP) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plain.Close()
	for _, s := range h.secure {
		s.transport.CloseIdleConnections()
	}
}

// client sends the requests of one action. Actions with the same certificates share their connections.
type client struct {
	plain  *http1.Transport
	secure *secure // for what plain does not handle
}

func (h *HTTP) client(files tlsFiles) (client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.secure[files] == nil {
		cfg, err := files.config()
		if err != nil {
			return client{}, err
		}
		h.secure[files] = newSecure(cfg, h.dial, h.perHost)
	}
	return client{h.plain, h.secure[files]}, nil
}

func (h *HTTP) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var allowed atomic.Bool // an address of host was
	d, control := h.dialer, h.guard.Control(host)
	d.Control = func(network, address string, c syscall.RawConn) error {
		err := control(network, address, c)
		if err == nil {
			allowed.Store(true)
		}
		return err
	}
	conn, err := d.DialContext(ctx, network, address)
	if _, blocked := errors.AsType[*blockedError](err); blocked && allowed.Load() {
		return nil, errUnreachable // the dialer returns the error of the first address, whatever became of the others
	}
	return conn, err
}

var errUnreachable = errors.New("one address of the host is blocked, and no other answers")

// send sends a request and returns its outcome. As soon as the status of the answer is known it counts; of the body, a
// bounded part is read for a bounded time, so that the connection can be used again and that an error holds what the
// receiver said.
func (c client) send(ctx context.Context, r *http1.Request, limit time.Duration) error {
	answer, err := c.do(ctx, r, limit)
	if err != nil {
		return requestError(ctx, err)
	}
	return finish(answer, r)
}

// finish reads what is left of an answer and closes it. It stands apart so that the stack is shallow while one waits for it.
func finish(answer *http1.Answer, r *http1.Request) error {
	said := ""
	if answer.Length != 0 {
		answer.Body.Limit(drainTimeout)
		if !succeeded(answer) {
			said = readSaid(answer.Body, secretsOf(r))
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxReply+1)) // the status counts; what is wrong here costs a connection
	}
	_ = answer.Body.Close() // nothing was written
	return statusError(answer, said)
}

func (c client) do(ctx context.Context, r *http1.Request, limit time.Duration) (*http1.Answer, error) {
	if http1.Handles(r.URL) {
		return c.plain.Do(ctx, r, limit)
	}
	return c.secure.do(ctx, r, limit)
}
