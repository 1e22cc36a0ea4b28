package http1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// peer is the server's end of one connection.
type peer struct {
	*net.TCPConn
	in *bufio.Reader
}

// next returns the body of the next request, false at the end of the connection.
func (p *peer) next() (string, bool) {
	req, err := http.ReadRequest(p.in)
	if err != nil {
		return "", false
	}
	body, err := io.ReadAll(req.Body)
	return string(body), err == nil
}

func (p *peer) say(text string) { _, _ = io.WriteString(p, text) } // the client may be gone

func peerOf(conn *net.TCPConn) *peer { return &peer{conn, bufio.NewReader(conn)} }

// echo answers each request with its own body until the connection ends.
func (p *peer) echo() {
	for body, ok := p.next(); ok; body, ok = p.next() {
		p.say(answerOf(body))
	}
}

func answerOf(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// watched is a client's end of a connection.
type watched struct {
	*net.TCPConn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.TCPConn.Close()
}

// client is a transport of HTTP that keeps connections.
type client struct {
	send    func(ctx context.Context, t *testing.T, body string) (told string, err error)
	noticed func(t *testing.T, w *watched) // waits until the client can know that a kept connection is of no use any more
	dialled chan *watched
}

func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &watched{TCPConn: conn.(*net.TCPConn), closed: make(chan struct{})}
	c.dialled <- w
	return w, nil
}

const mostConnections = 10 // that a test opens

func ours(t *testing.T, s *server) *client {
	t.Helper()
	c := &client{dialled: make(chan *watched, mostConnections)}
	c.noticed = func(t *testing.T, w *watched) { t.Helper(); testenv.Arrived(t, w) }
	tr := transport(t)
	tr.Dial = c.dial
	c.send = func(ctx context.Context, t *testing.T, body string) (string, error) {
		t.Helper()
		answer, err := tr.Do(ctx, request(t, s, []byte(body)), patience)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, answer.Body.Close())
		return string(text), err
	}
	return c
}

// model is the client whose behaviour ours is held against.
func model(t *testing.T, s *server) *client {
	t.Helper()
	c := &client{dialled: make(chan *watched, mostConnections)}
	c.noticed = func(_ *testing.T, w *watched) { <-w.closed } // it reads ahead all the time
	tr := &http.Transport{DialContext: c.dial, MaxIdleConnsPerHost: 4}
	t.Cleanup(tr.CloseIdleConnections)
	c.send = func(ctx context.Context, t *testing.T, body string) (string, error) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+"/hook", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Idempotency-Key", body) // it sends again what has one
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		return string(text), err
	}
	return c
}

var clients = map[string]func(*testing.T, *server) *client{"http1": ours, "net/http": model}

// A connection on which the server says more than the answer to the first request serves no second one.
func TestNobodyIsToldAnAnswerThatIsNotTheirs(t *testing.T) {
	t.Parallel()
	idle := func(then func(p *peer)) func(*peer, <-chan struct{}) {
		return func(p *peer, answered <-chan struct{}) {
			body, _ := p.next()
			p.say(answerOf(body))
			<-answered
			then(p)
		}
	}
	atOnce := func(extra string) func(*peer, <-chan struct{}) {
		return func(p *peer, _ <-chan struct{}) {
			body, _ := p.next()
			p.say(answerOf(body) + extra)
		}
	}
	for name, first := range map[string]func(p *peer, answered <-chan struct{}){ // what the server does with the first request
		"an answer that nobody asked for":    idle(func(p *peer) { p.say(answerOf("extra")) }),
		"the answer a second time, at once":  atOnce(answerOf("1")),
		"the answer a second time, later":    idle(func(p *peer) { p.say(answerOf("1")) }),
		"more than Content-Length, at once":  atOnce("more"),
		"more than Content-Length, later":    idle(func(p *peer) { p.say("more") }),
		"an informational answer":            idle(func(p *peer) { p.say("HTTP/1.1 103 Early Hints\r\n\r\n") }),
		"408, as servers say before closing": idle(func(p *peer) { p.say("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") }),
		"408 and the end": idle(func(p *peer) {
			p.say("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = p.Close()
		}),
		"the end":            idle(func(p *peer) { _ = p.Close() }),
		"the end of answers": idle(func(p *peer) { _ = p.CloseWrite() }),
		"a reset": idle(func(p *peer) {
			_ = p.SetLinger(0)
			_ = p.Close()
		}),
	} {
		for who, build := range clients {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				answered := make(chan struct{})
				s := listen(t, func(conn *net.TCPConn, n int) {
					p := peerOf(conn)
					if n == 0 {
						first(p, answered)
					}
					p.echo()
				})
				c := build(t, s)
				told, err := c.send(t.Context(), t, "1")
				require.NoError(t, err)
				require.Equal(t, "1", told)
				close(answered)
				c.noticed(t, <-c.dialled)
				for _, body := range []string{"2", "3", "4"} {
					told, err = c.send(t.Context(), t, body)
					require.NoError(t, err)
					require.Equal(t, body, told)
				}
				require.EqualValues(t, 2, s.connections.Load())
			})
		}
	}
}

func TestAnAnswerThatComesTooLateIsToldToNobody(t *testing.T) {
	t.Parallel()
	for name, inTime := range map[string]int{"all of it": 0, "its body": len(answerOf("2")) - 1} {
		for who, build := range clients {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				asked, gaveUp := make(chan struct{}), make(chan struct{})
				s := listen(t, func(conn *net.TCPConn, _ int) {
					p := peerOf(conn)
					for body, ok := p.next(); ok; body, ok = p.next() {
						answer := answerOf(body)
						if body == "2" {
							p.say(answer[:inTime])
							close(asked)
							<-gaveUp
							answer = answer[inTime:]
						}
						p.say(answer)
					}
				})
				c := build(t, s)
				told, err := c.send(t.Context(), t, "1")
				require.NoError(t, err)
				require.Equal(t, "1", told)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-asked
					cancel()
				}()
				_, err = c.send(ctx, t, "2")
				require.Error(t, err)
				close(gaveUp)
				for _, body := range []string{"3", "4"} {
					told, err = c.send(t.Context(), t, body)
					require.NoError(t, err)
					require.Equal(t, body, told)
				}
				require.EqualValues(t, 2, s.connections.Load())
			})
		}
	}
}

// What net/http does here depends on which of its goroutines comes first: it takes the answer for the one to the first
// request, or fails.
func TestAnAnswerOnANewConnectionBeforeTheRequestIsRefused(t *testing.T) {
	t.Parallel()
	var dials, requests atomic.Int64
	s := listen(t, func(conn *net.TCPConn, n int) {
		p := peerOf(conn)
		if n == 0 {
			p.say(answerOf("extra"))
		}
		for body, ok := p.next(); ok; body, ok = p.next() {
			requests.Add(1)
			p.say(answerOf(body))
		}
	})
	tr := transport(t)
	watching := &client{dialled: make(chan *watched, mostConnections)}
	tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := watching.dial(ctx, network, address)
		if err == nil && dials.Add(1) == 1 {
			testenv.Arrived(t, conn.(*watched))
		}
		return conn, err
	}
	_, err := tr.Do(t.Context(), request(t, s, []byte("1")), patience)
	require.ErrorContains(t, err, "answered before it was asked")
	_, told := send(t, tr, request(t, s, []byte("2")))
	require.Equal(t, "2", told)
	require.EqualValues(t, 1, requests.Load(), "the first one was not sent")
}

// unwatched hides what a connection is.
type unwatched struct{ net.Conn }

func TestAConnectionThatCannotBeLookedAtServesOneRequest(t *testing.T) {
	t.Parallel()
	s := listen(t, func(conn *net.TCPConn, _ int) { peerOf(conn).echo() })
	tr := transport(t)
	dial := tr.Dial
	tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return unwatched{conn}, err
	}
	for range 3 {
		send(t, tr, request(t, s, nil))
	}
	require.EqualValues(t, 3, s.connections.Load())
}
