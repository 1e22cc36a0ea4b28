package handlers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

// testAuthority issues certificates.
type testAuthority struct {
	tls.Certificate

	file string // its certificate
}

func newAuthority(t *testing.T) *testAuthority {
	t.Helper()
	a := &testAuthority{file: filepath.Join(t.TempDir(), "ca.pem")}
	a.Certificate = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "a private authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	cert, _ := pemOf(t, a.Certificate)
	require.NoError(t, os.WriteFile(a.file, cert, 0o600))
	return a
}

// issue fills in what the template leaves out: it is for this machine, and valid for an hour.
func (a *testAuthority) issue(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if template.DNSNames == nil && !template.IsCA {
		template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	parent, signer := template, any(key)
	if a.Leaf != nil {
		parent, signer = a.Leaf, a.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *testAuthority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Leaf)
	return pool
}

func pemOf(t *testing.T, pair tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// writePair writes a client certificate to the files that an action names.
func writePair(t *testing.T, files tlsFiles, pair tls.Certificate) {
	t.Helper()
	cert, key := pemOf(t, pair)
	require.NoError(t, os.WriteFile(files.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(files.key, key, 0o600))
}

// secureServer starts a TLS server that speaks HTTP/2 when it is told so. change may be nil.
func secureServer(t *testing.T, http2 bool, pair tls.Certificate, handler http.HandlerFunc, change func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2, s.TLS = http2, &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if change != nil {
		change(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func answerNothing(http.ResponseWriter, *http.Request) {}

func newTestHTTP(t *testing.T) *HTTP {
	t.Helper()
	h, err := NewHTTP(HTTPConfig{Concurrency: 64})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

func newTestWebhook(t *testing.T, h *HTTP, cfg WebhookConfig) *Webhook {
	t.Helper()
	action, err := NewWebhook(&cfg, Env{HTTP: h, Timeout: 5 * time.Second})
	require.NoError(t, err)
	w, ok := action.(*Webhook)
	require.True(t, ok)
	return w
}

func newTestDelivery(data string) *event.Delivery {
	return &event.Delivery{
		Event:    &event.Event{ID: "0198c5a0-0000-7000-8000-000000000001", Type: event.Update, Entity: "Order", Data: json.RawMessage(data)},
		Observer: "order-shipped", Action: "notify",
	}
}

func TestSecureSpeaksHTTP2OverOneConnection(t *testing.T) {
	ca := newAuthority(t)
	var seen sync.Map // protocol and connection
	s := secureServer(t, true, ca.issue(t, &x509.Certificate{}), func(_ http.ResponseWriter, r *http.Request) {
		seen.Store(r.Proto+" "+r.RemoteAddr, true)
		<-time.After(5 * time.Millisecond) // so that requests are under way together
	}, nil)
	w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file})
	require.NoError(t, w.Run(t.Context(), newTestDelivery(`{}`)))
	var running sync.WaitGroup
	for range 32 {
		running.Go(func() {
			if err := w.Run(t.Context(), newTestDelivery(`{}`)); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	var list []any
	seen.Range(func(key, _ any) bool {
		list = append(list, key)
		return true
	})
	require.Len(t, list, 1)
	require.Contains(t, list[0], "HTTP/2.0 ")
}

func TestSecureSendsTheSameOverBothProtocols(t *testing.T) {
	t.Setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	ca := newAuthority(t)
	for _, http2 := range []bool{false, true} {
		got := make(chan *http.Request, 10)
		bodies := make(chan string, 10)
		s := secureServer(t, http2, ca.issue(t, &x509.Certificate{}), func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got <- r
			bodies <- string(body)
		}, nil)
		post := func(cfg WebhookConfig) (*http.Request, string) {
			cfg.URL, cfg.TLSCA, cfg.SigningSecretEnv = secret.String(s.URL+"/a%2Fb?c=d"), ca.file, []string{"HOOK_SECRET"}
			require.NoError(t, newTestWebhook(t, newTestHTTP(t), cfg).Run(t.Context(), newTestDelivery(`{"n": null}`)))
			return <-got, <-bodies
		}
		r, body := post(WebhookConfig{Headers: map[string]string{"X-Token": "t0ken"}})
		require.Equal(t, http2, r.ProtoMajor == 2)
		require.Equal(t, "/a%2Fb?c=d", r.RequestURI)
		require.Equal(t, "t0ken", r.Header.Get("X-Token"))
		require.Empty(t, r.Header.Get("Accept-Encoding"))
		require.Equal(t, string(newTestDelivery(`{"n": null}`).Event.JSON()), body)
		require.EqualValues(t, len(body), r.ContentLength)
		signer, err := newSigner([]string{"HOOK_SECRET"})
		require.NoError(t, err)
		require.Equal(t, signer.sign(r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), []byte(body)), r.Header.Get("webhook-signature"))

		r, body = post(WebhookConfig{Headers: map[string]string{"Content-Type": "text/plain"}, BodyTemplate: "{{ data.n }}"})
		require.Empty(t, body)
		require.Equal(t, "0", r.Header.Get("Content-Length"), "some servers refuse a body of unknown length")
		r, body = post(WebhookConfig{Method: "GET"})
		require.Empty(t, body)
		require.Zero(t, r.ContentLength)
	}
}

func TestSecureWithAServerOfHTTP1KeepsItsConnection(t *testing.T) {
	ca := newAuthority(t)
	var opened atomic.Int64
	s := secureServer(t, false, ca.issue(t, &x509.Certificate{}), func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/1.1" {
			t.Errorf("the protocol is %s", r.Proto)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 60<<10))
	}, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened.Add(1)
			}
		}
	})
	w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file})
	for range 5 {
		require.Equal(t, "http_503", event.Class(w.Run(t.Context(), newTestDelivery(`{}`))))
	}
	require.EqualValues(t, 1, opened.Load())
}

func TestSecureJudgesTheServersCertificate(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		ca   string
		want string // "": trusted
	}{
		"of the authority that the file names": {&x509.Certificate{}, ca.file, ""},
		"of one that nobody knows":             {&x509.Certificate{}, "", "unknown authority"},
		"of another one":                       {&x509.Certificate{}, other.file, "unknown authority"},
		"expired":                              {&x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, ca.file, "expired"},
		"not valid yet":                        {&x509.Certificate{NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}, ca.file, "not yet valid"},
		"for another host":                     {&x509.Certificate{DNSNames: []string{"example.com"}}, ca.file, "127.0.0.1"},
		"for clients":                          {&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca.file, "key usage"},
	} {
		t.Run(name, func(t *testing.T) {
			s := secureServer(t, true, ca.issue(t, tc.cert), answerNothing, nil)
			err := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL + "/s3cret"), TLSCA: tc.ca}).Run(t.Context(), newTestDelivery(`{}`))
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "POST "+s.URL+": tls: failed to verify certificate: ")
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, "tls", event.Class(err))
			require.False(t, event.IsPermanent(err), "a certificate can be renewed")
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestSecureRefusesOldVersions(t *testing.T) {
	ca := newAuthority(t)
	s := secureServer(t, false, ca.issue(t, &x509.Certificate{}), answerNothing, func(s *httptest.Server) {
		s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	})
	err := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file}).Run(t.Context(), newTestDelivery(`{}`))
	require.Equal(t, "tls", event.Class(err), "%v", err)
}

// clientFiles are files for a client certificate, which are not there yet.
func clientFiles(t *testing.T, ca *testAuthority) tlsFiles {
	t.Helper()
	dir := t.TempDir()
	return tlsFiles{ca: ca.file, cert: filepath.Join(dir, "client.pem"), key: filepath.Join(dir, "client.key")}
}

// certifiedServer starts a server that wants client certificates of ca and hands out their names.
func certifiedServer(t *testing.T, ca *testAuthority, http2 bool, version uint16) (*httptest.Server, <-chan string) {
	t.Helper()
	names := make(chan string, 100)
	s := secureServer(t, http2, ca.issue(t, &x509.Certificate{}), func(_ http.ResponseWriter, r *http.Request) {
		names <- r.TLS.PeerCertificates[0].Subject.CommonName
	}, func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs, s.TLS.MaxVersion = tls.RequireAndVerifyClientCert, ca.pool(), version
	})
	return s, names
}

func TestSecureShowsItsCertificate(t *testing.T) {
	ca := newAuthority(t)
	files := clientFiles(t, ca)
	writePair(t, files, ca.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "observer"}}))
	for name, tc := range map[string]struct {
		http2   bool
		version uint16
	}{"HTTP/2, TLS 1.3": {true, tls.VersionTLS13}, "HTTP/1.1, TLS 1.3": {false, tls.VersionTLS13}, "HTTP/2, TLS 1.2": {true, tls.VersionTLS12}, "HTTP/1.1, TLS 1.2": {false, tls.VersionTLS12}} {
		t.Run(name, func(t *testing.T) {
			s, names := certifiedServer(t, ca, tc.http2, tc.version)
			h := newTestHTTP(t)
			require.NoError(t, newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file, TLSCert: files.cert, TLSKey: files.key}).Run(t.Context(), newTestDelivery(`{}`)))
			require.Equal(t, "observer", <-names)

			err := newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file}).Run(t.Context(), newTestDelivery(`{}`))
			require.Error(t, err)
			require.False(t, event.IsPermanent(err))
			require.Contains(t, []string{"tls", "reset", "network"}, event.Class(err), "%v", err) // its hanging up may overtake its reason
		})
	}
}

func TestSecureTakesRenewedCertificates(t *testing.T) {
	ca := newAuthority(t)
	files := clientFiles(t, ca)
	first := ca.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "first"}})
	second := ca.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "second"}})
	writePair(t, files, first)
	s, names := certifiedServer(t, ca, true, 0)
	w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file, TLSCert: files.cert, TLSKey: files.key})
	send := func() error { return w.Run(t.Context(), newTestDelivery(`{}`)) }
	require.NoError(t, send())
	require.Equal(t, "first", <-names)

	cert, key := pemOf(t, second)
	require.NoError(t, os.WriteFile(files.cert, cert, 0o600))
	require.NoError(t, send(), "the connection stands")
	require.Equal(t, "first", <-names)
	var err error
	testenv.Eventually(t, 5*time.Second, func() error {
		w.client.secure.transport.CloseIdleConnections()
		if err = send(); err == nil {
			require.Equal(t, "first", <-names)
			return errors.New("the connection was not idle yet")
		}
		return nil
	})
	require.ErrorContains(t, err, "read client certificate: tls_cert: ", "half of the pair is new")
	require.Equal(t, "tls", event.Class(err))
	require.False(t, event.IsPermanent(err))
	require.NoError(t, os.WriteFile(files.key, key, 0o600))
	require.NoError(t, send())
	require.Equal(t, "second", <-names)
}

func TestSecureFilesThatAreWrong(t *testing.T) {
	ca := newAuthority(t)
	good, other := clientFiles(t, ca), clientFiles(t, ca)
	writePair(t, good, ca.issue(t, &x509.Certificate{}))
	writePair(t, other, ca.issue(t, &x509.Certificate{}))
	garbled := filepath.Join(t.TempDir(), "garbled.pem")
	require.NoError(t, os.WriteFile(garbled, []byte("-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"), 0o600))
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, tc := range map[string]struct {
		ca, cert, key string
		want          string
	}{
		"no such authority":    {missing, "", "", "tls_ca: open " + missing + ": no such file"},
		"a garbled authority":  {garbled, "", "", "tls_ca: holds no certificate in PEM form"},
		"a key as authority":   {good.key, "", "", "tls_ca: holds no certificate in PEM form"},
		"no such certificate":  {"", missing, good.key, "tls_cert: open " + missing + ": no such file"},
		"no such key":          {"", good.cert, missing, "tls_key: open " + missing + ": no such file"},
		"a garbled one":        {"", garbled, good.key, "tls_cert: "},
		"a garbled key":        {"", good.cert, garbled, "tls_cert: "},
		"those of two pairs":   {"", good.cert, other.key, "tls_cert: tls: private key does not match public key (tls_cert and tls_key are one pair, in PEM form)"},
		"a certificate alone":  {"", good.cert, "", "tls_key: is missing (tls_cert and tls_key belong together)"},
		"a key alone":          {"", "", good.key, "tls_cert: is missing (tls_cert and tls_key belong together)"},
		"a directory":          {filepath.Dir(garbled), "", "", "tls_ca: read "},
		"one instead of other": {"", good.key, good.cert, "tls_cert: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewWebhook(&WebhookConfig{URL: "https://localhost/", TLSCA: tc.ca, TLSCert: tc.cert, TLSKey: tc.key}, Env{HTTP: newTestHTTP(t)})
			require.ErrorContains(t, err, tc.want)
			require.Len(t, KeyErrors(err), 1)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestSecureActionsWithTheSameFilesShareConnections(t *testing.T) {
	ca := newAuthority(t)
	var connections sync.Map
	s := secureServer(t, true, ca.issue(t, &x509.Certificate{}), func(_ http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
	}, nil)
	files := clientFiles(t, ca)
	writePair(t, files, ca.issue(t, &x509.Certificate{}))
	h := newTestHTTP(t)
	count := func(cfg WebhookConfig) (n int) {
		cfg.URL, cfg.TLSCA = secret.String(s.URL), ca.file
		require.NoError(t, newTestWebhook(t, h, cfg).Run(t.Context(), newTestDelivery(`{}`)))
		connections.Range(func(any, any) bool {
			n++
			return true
		})
		return n
	}
	require.Equal(t, 1, count(WebhookConfig{}))
	require.Equal(t, 1, count(WebhookConfig{Method: "PUT"}))
	require.Equal(t, 2, count(WebhookConfig{TLSCert: files.cert, TLSKey: files.key}), "what a certificate opens is not for the others")
}

func TestSecureHTTP2AnswersAreReadInPart(t *testing.T) {
	ca := newAuthority(t)
	for name, tc := range map[string]struct {
		status int
		header http.Header
		class  string // "": done
	}{
		"10 GB":               {200, http.Header{"Content-Length": {"10737418240"}}, ""},
		"10 GB with an error": {500, http.Header{"Content-Length": {"10737418240"}}, "http_500"},
		"without an end":      {200, nil, ""},
		"a gzip bomb":         {200, http.Header{"Content-Encoding": {"gzip"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			s := secureServer(t, true, ca.issue(t, &x509.Certificate{}), func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), tc.header)
				w.WriteHeader(tc.status)
				chunk := bytes.Repeat([]byte{0x1f, 0x8b, 8, 0}, 4<<10)
				for range 10 << 30 / len(chunk) {
					n, err := w.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			}, nil)
			w := newTestWebhook(t, newTestHTTP(t), WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file})
			start := time.Now()
			for range 20 {
				err := w.Run(t.Context(), newTestDelivery(`{}`))
				if tc.class == "" {
					require.NoError(t, err)
				} else {
					require.Equal(t, tc.class, event.Class(err))
				}
			}
			require.Less(t, time.Since(start), 20*time.Second)
			require.Less(t, sent.Load(), int64(20*(maxReply+256<<10)), "the window of a stream is what is read of it")
		})
	}
}

func TestSecureTimesAreBounded(t *testing.T) {
	ca := newAuthority(t)
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s := secureServer(t, http2, ca.issue(t, &x509.Certificate{}), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/body" {
					w.WriteHeader(http.StatusOK)
					w.(http.Flusher).Flush()
				}
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}, nil)
			h := newTestHTTP(t)
			hang := newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL + "/s3cret"), TLSCA: ca.file, TimeoutMS: 200})
			err := hang.Run(t.Context(), newTestDelivery(`{}`))
			require.EqualError(t, err, "POST "+s.URL+": no answer in time")
			require.Equal(t, "timeout", event.Class(err))

			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			err = newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file}).Run(ctx, newTestDelivery(`{}`))
			require.ErrorIs(t, err, context.Canceled)
			require.False(t, event.IsPermanent(err))

			start := time.Now()
			body := newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL + "/body"), TLSCA: ca.file, TimeoutMS: 3600_000})
			require.NoError(t, body.Run(t.Context(), newTestDelivery(`{}`)), "the status is known")
			require.Less(t, time.Since(start), time.Minute, "it does not wait for the time of the attempt")
			close(release)
		})
	}
}

// stuckListener accepts connections that stop reading when they are told to.
type stuckListener struct {
	net.Listener

	mu       sync.Mutex // guards what follows
	accepted []*stuckConn
}

type stuckConn struct {
	net.Conn

	stuck, closed chan struct{}
	once          sync.Once
}

func (l *stuckListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := raw.(*net.TCPConn); ok { // else the kernel takes all that is written, and nobody is stuck
		if err := tcp.SetReadBuffer(32 << 10); err != nil {
			return nil, err
		}
	}
	c := &stuckConn{Conn: raw, stuck: make(chan struct{}), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, c)
	return c, nil
}

func (l *stuckListener) connections() []*stuckConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

func (c *stuckConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.stuck:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestSecureLeavesAnHTTP2ConnectionThatIsStuck(t *testing.T) {
	const soon, never = 300 * time.Millisecond, time.Hour
	for name, tc := range map[string]struct {
		limits http.HTTP2Config
		body   string
	}{
		"no ping comes back":         {http.HTTP2Config{SendPingTimeout: soon, PingTimeout: soon, WriteByteTimeout: never}, `"short"`},
		"nothing can be written":     {http.HTTP2Config{SendPingTimeout: never, PingTimeout: soon, WriteByteTimeout: soon}, `"` + strings.Repeat("x", 1<<20) + `"`},
		"a ping cannot even be sent": {http.HTTP2Config{SendPingTimeout: soon, PingTimeout: soon, WriteByteTimeout: never}, `"` + strings.Repeat("x", 1<<20) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			var l *stuckListener
			s := secureServer(t, true, ca.issue(t, &x509.Certificate{}), answerNothing, func(s *httptest.Server) {
				l = &stuckListener{Listener: s.Listener}
				s.Listener = l
				s.Config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 4<<20 - 1}
			})
			h := newTestHTTP(t)
			w := newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file, TimeoutMS: 1000})
			w.client.secure.transport.HTTP2 = &tc.limits // those of the program are long for a test
			first := newTestWebhook(t, h, WebhookConfig{URL: secret.String(s.URL), TLSCA: ca.file, TimeoutMS: 60_000})
			require.NoError(t, first.Run(t.Context(), newTestDelivery(`{}`)))
			require.Len(t, l.connections(), 1)
			close(l.connections()[0].stuck)

			var running sync.WaitGroup
			for range 8 {
				running.Go(func() {
					if err := w.Run(t.Context(), newTestDelivery(`{"n": `+tc.body+`}`)); event.IsPermanent(err) {
						t.Errorf("a stuck connection is no reason to give up: %v", err)
					}
				})
			}
			running.Wait()
			testenv.Eventually(t, 30*time.Second, func() error { return w.Run(t.Context(), newTestDelivery(`{"n": `+tc.body+`}`)) })
			require.Greater(t, len(l.connections()), 1)
		})
	}
}
