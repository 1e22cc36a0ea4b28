// Package http1 sends requests to http:// addresses in the goroutine of their caller.
//
// [net/http.Transport] runs two more goroutines for each connection, and hands every request to one and its answer back from
// the other. For a small request to a receiver nearby that takes as much of the processor as everything else together: this
// package needs half (bench, row "webhook"). It parses answers with net/http. What it leaves to [net/http.Transport] is
// TLS, HTTP/2, proxies, compression and names that are not ASCII.
package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// Transport keeps connections; it is safe for concurrent use. Its fields must not change after the first request.
type Transport struct {
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
	MaxIdlePerHost int           // connections kept for each server
	IdleTimeout    time.Duration // how long a connection is kept
	MaxHeaderBytes int64         // of an answer

	mu     sync.Mutex // guards what follows
	idle   map[string][]*conn
	sweeps *time.Timer // runs while anything is idle
	closed bool
}

// Request is one request. Host, Content-Length and what concerns the connection are set by whoever sends it.
type Request struct {
	Method string
	URL    *url.URL
	Header []Field
	Body   []byte // nil: none
}

// Field is one header.
type Field struct{ Name, Value string }

// Answer is what came back. Its Body must be closed; that keeps the connection when it was read to its end.
type Answer struct {
	Status int
	Header http.Header
	Length int64 // of the body; -1: unknown
	Body   Body
}

// Body is the body of an answer.
type Body interface {
	io.ReadCloser
	// Limit ends reading after d from now, whatever was said before.
	Limit(d time.Duration)
}

// Handles reports whether the transport can send a request to u; net/http sends the others. Where no connection can be looked
// at before it is used again, that is all of them.
func Handles(u *url.URL) bool {
	if !canLook || u.Scheme != "http" {
		return false
	}
	for i := range len(u.Host) {
		if c := u.Host[i]; c <= ' ' || c >= 0x7f || c == '%' { // not ASCII, or an IPv6 zone
			return false
		}
	}
	return true
}

// Do sends a request; the exchange, the body of the answer included, ends with ctx or after limit, then with an error that
// is [os.ErrDeadlineExceeded]. A request that met a kept connection which the server had closed is sent once more, on a new one.
func (t *Transport) Do(ctx context.Context, r *Request, limit time.Duration) (*Answer, error) {
	if err := check(r); err != nil {
		return nil, err
	}
	deadline, address := time.Now().Add(limit), addressOf(r.URL)
	if c := t.take(address, deadline); c != nil {
		answer, err := c.exchange(ctx, r)
		if err == nil || c.heard || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, err
		}
	}
	c, err := t.connect(ctx, address, deadline)
	if err != nil {
		return nil, err
	}
	return c.exchange(ctx, r)
}

func (t *Transport) connect(ctx context.Context, address string, deadline time.Time) (*conn, error) {
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := t.Dial(bounded, "tcp", address)
	if err != nil {
		if ctx.Err() == nil && !time.Now().Before(deadline) { // dialers say so in their own words
			err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &conn{Conn: raw, looker: newLooker(raw), owner: t, address: address}
	c.in, c.out = bufio.NewReader(c), bufio.NewWriter(raw)
	if c.prepare(deadline) == spoken {
		_ = c.Close() // nothing was sent
		return nil, fmt.Errorf("connect: %w", errUnasked)
	}
	return c, nil
}

func addressOf(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// check refuses what would break the form of a request.
func check(r *Request) error {
	for _, f := range r.Header {
		if f.Name == "" || strings.ContainsAny(f.Name, " \t:\r\n\x00") || strings.ContainsAny(f.Value, "\r\n\x00") {
			return fmt.Errorf("header %q holds what no header can hold", f.Name)
		}
	}
	return nil
}

// take returns the idle connection that was used last and still stands, nil when there is none. A server may have closed it,
// or said something unasked, at any moment since its last answer.
func (t *Transport) take(address string, deadline time.Time) *conn {
	for {
		t.mu.Lock()
		list := t.idle[address]
		if len(list) == 0 {
			t.mu.Unlock()
			return nil
		}
		c := list[len(list)-1]
		list[len(list)-1] = nil
		t.idle[address] = list[:len(list)-1]
		t.mu.Unlock()
		if c.prepare(deadline) == quiet {
			return c
		}
		_ = c.Close() // it served
	}
}

// put keeps a connection for the next request.
func (t *Transport) put(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle[c.address]) >= t.MaxIdlePerHost {
		_ = c.Close() // it served
		return
	}
	if t.idle == nil {
		t.idle = map[string][]*conn{}
	}
	c.since = time.Now()
	t.idle[c.address] = append(t.idle[c.address], c)
	if t.sweeps == nil {
		t.sweeps = time.AfterFunc(t.IdleTimeout, t.sweep)
	}
}

// sweep closes what has been idle for IdleTimeout.
func (t *Transport) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := time.Now().Add(-t.IdleTimeout)
	for address, list := range t.idle {
		old := 0 // the list is sorted: who was used last is taken first
		for old < len(list) && !list[old].since.After(limit) {
			_ = list[old].Close() // it served
			old++
		}
		if rest := append([]*conn(nil), list[old:]...); len(rest) > 0 {
			t.idle[address] = rest
		} else {
			delete(t.idle, address)
		}
	}
	if len(t.idle) == 0 {
		t.sweeps = nil
		return
	}
	t.sweeps.Reset(t.IdleTimeout / 2)
}

// Close closes the idle connections; those in use are closed when their answers are.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, list := range t.idle {
		for _, c := range list {
			_ = c.Close() // it served
		}
	}
	t.idle = nil
	if t.sweeps != nil {
		t.sweeps.Stop()
	}
}
