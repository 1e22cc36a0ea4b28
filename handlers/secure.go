package handlers

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/fraiseql/observer/internal/http1"
)

// secure sends requests over TLS with net/http.
type secure struct {
	transport *http.Transport
}

// do is [http1.Transport.Do].
func (s secure) do(ctx context.Context, r *http1.Request, limit time.Duration) (*http1.Answer, error) {
	attempt, cancel := context.WithCancel(ctx)
	clock := time.AfterFunc(limit, cancel)
	resp, err := s.transport.RoundTrip(netRequest(attempt, r)) //nolint:bodyclose // the answer closes it
	if err != nil {
		clock.Stop()
		if attempt.Err() != nil && ctx.Err() == nil {
			err = os.ErrDeadlineExceeded
		}
		cancel()
		return nil, err
	}
	return &http1.Answer{Status: resp.StatusCode, Header: resp.Header, Length: resp.ContentLength, Body: &secureBody{resp.Body, clock, cancel}}, nil
}

func netRequest(ctx context.Context, r *http1.Request) *http.Request {
	header := make(http.Header, len(r.Header))
	for _, f := range r.Header {
		header[f.Name] = append(header[f.Name], f.Value)
	}
	req := &http.Request{
		Method: r.Method, URL: r.URL, Host: r.URL.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
	}
	if r.Body != nil {
		req.ContentLength = int64(len(r.Body))
		req.Body = io.NopCloser(bytes.NewReader(r.Body)) // net/http knows this form to be in memory, and sends it together with the headers
		// The transport sends again, on a new connection, what met one that the server had just closed.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	}
	return req.WithContext(ctx)
}

// secureBody keeps the time of an exchange until its answer was read.
type secureBody struct {
	io.ReadCloser
	clock *time.Timer
	end   func()
}

// Limit implements http1.Body.
func (b *secureBody) Limit(d time.Duration) { b.clock.Reset(d) }

func (b *secureBody) Close() error {
	err := b.ReadCloser.Close()
	b.clock.Stop()
	b.end()
	return err
}
