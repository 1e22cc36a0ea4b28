package handlers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/fraiseql/observer/internal/http1"
)

// secure sends requests over TLS with net/http.
type secure struct {
	transport *http.Transport
}

// HTTP/2 puts all requests to a server on one connection: whether it still stands is asked when nothing comes, and it ends
// when nothing can be written.
const (
	pingAfter    = 10 * time.Second
	pingTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

func newSecure(cfg *tls.Config, dial func(ctx context.Context, network, address string) (net.Conn, error), perHost int) *secure {
	return &secure{&http.Transport{
		DialContext:            dial,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    tlsTimeout,
		DisableCompression:     true, // answers are thrown away
		MaxIdleConnsPerHost:    perHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: writeTimeout,
			MaxReceiveBufferPerStream: maxReply, // of an answer, no more is read
		},
	}}
}

// tlsFiles are the certificates of one action.
type tlsFiles struct{ ca, cert, key string }

func (f tlsFiles) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, &KeyError{Key: "tls_ca", Err: err}
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, &KeyError{Key: "tls_ca", Err: errors.New("holds no certificate in PEM form")}
		}
	}
	switch {
	case f.cert == "" && f.key == "":
		return cfg, nil
	case f.cert == "":
		return nil, &KeyError{Key: "tls_cert", Err: errors.New("is missing"), Hint: "tls_cert and tls_key belong together"}
	case f.key == "":
		return nil, &KeyError{Key: "tls_key", Err: errors.New("is missing"), Hint: "tls_cert and tls_key belong together"}
	}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := f.pair() // for each connection, since certificates are renewed
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errClientCertificate, err)
		}
		return &pair, nil
	}
	return cfg, nil
}

var errClientCertificate = errors.New("read client certificate")

func (f tlsFiles) pair() (tls.Certificate, error) {
	cert, err := os.ReadFile(f.cert)
	if err != nil {
		return tls.Certificate{}, &KeyError{Key: "tls_cert", Err: err}
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return tls.Certificate{}, &KeyError{Key: "tls_key", Err: err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, &KeyError{Key: "tls_cert", Err: err, Hint: "tls_cert and tls_key are one pair, in PEM form"}
	}
	return pair, nil
}

// do is [http1.Transport.Do].
func (s *secure) do(ctx context.Context, r *http1.Request, limit time.Duration) (*http1.Answer, error) {
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
	if len(r.Body) > 0 { // net/http takes an empty one for a body of unknown length
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
