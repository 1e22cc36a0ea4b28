package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/http1"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// exchange is what a server does with the n-th request of a connection, from 0. It returns false to close the connection.
type exchange func(conn net.Conn, n int, req *http.Request) bool

// server counts connections and requests.
type server struct {
	address               string
	connections, requests atomic.Int64
}

// listen hands each connection to each, with its number from 0.
func listen(t *testing.T, each func(conn *net.TCPConn, n int)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{address: listener.Addr().String()}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		end()
		running.Wait()
	})
	running.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				each(conn.(*net.TCPConn), n)
			})
		}
	})
	return s
}

// serve hands each request to each.
func serve(t *testing.T, each exchange) *server {
	t.Helper()
	var s *server
	s = listen(t, func(conn *net.TCPConn, _ int) {
		serveConn(conn, func(conn net.Conn, n int, req *http.Request) bool {
			s.requests.Add(1)
			return each(conn, n, req)
		})
	})
	return s
}

func serveConn(conn net.Conn, each exchange) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for n := 0; ; n++ {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		if !each(conn, n, req) {
			return
		}
	}
}

func answers(text string) exchange {
	return func(conn net.Conn, _ int, _ *http.Request) bool {
		_, err := io.WriteString(conn, text)
		return err == nil
	}
}

func transport(t *testing.T) *http1.Transport {
	t.Helper()
	tr := &http1.Transport{Dial: (&net.Dialer{}).DialContext, MaxIdlePerHost: 4, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	t.Cleanup(tr.Close)
	return tr
}

func request(t *testing.T, s *server, body []byte) *http1.Request {
	t.Helper()
	u, err := url.Parse("http://" + s.address + "/hook?a=b%20c")
	require.NoError(t, err)
	return &http1.Request{Method: http.MethodPost, URL: u, Header: []http1.Field{{Name: "Content-Type", Value: "text/plain"}}, Body: body}
}

// patience is far more than anything here takes, for a busy machine.
const patience = time.Minute

// send returns the status and the whole body.
func send(t *testing.T, tr *http1.Transport, r *http1.Request) (int, string) {
	t.Helper()
	answer, err := tr.Do(t.Context(), r, patience)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.NoError(t, answer.Body.Close(), "again")
	return answer.Status, string(body)
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method string
		body   []byte
		length string
	}{
		"a body":            {http.MethodPost, []byte("text"), "4"},
		"a long body":       {http.MethodPut, bytes.Repeat([]byte("x"), 1<<20), "1048576"},
		"an empty body":     {http.MethodPost, nil, "0"},
		"a GET has no body": {http.MethodGet, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan *http.Request, 1)
			s := serve(t, func(conn net.Conn, n int, req *http.Request) bool {
				got <- req
				return answers(ok)(conn, n, req)
			})
			r := request(t, s, tc.body)
			r.Method = tc.method
			status, text := send(t, transport(t), r)
			require.Equal(t, 200, status)
			require.Equal(t, "ok", text)
			req := <-got
			body, err := io.ReadAll(req.Body)
			require.NoError(t, err)
			require.Equal(t, string(tc.body), string(body))
			require.Equal(t, tc.method+" /hook?a=b%20c "+s.address, req.Method+" "+req.RequestURI+" "+req.Host)
			require.Equal(t, "text/plain", req.Header.Get("Content-Type"))
			require.Equal(t, tc.length, req.Header.Get("Content-Length"))
		})
	}
}

func TestWhenAConnectionServesAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer      string
		connections int64
	}{
		"a body of known length": {ok, 1},
		"no body":                {"HTTP/1.1 204 No Content\r\n\r\n", 1},
		"a chunked body":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1},
		"the server will close":  {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 2},
		"HTTP/1.0":               {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 2},
		"more than the answer":   {ok + "HTTP/1.1 500 Oh\r\n\r\n", 2},
		"another protocol":       {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 2},
		"informational answers":  {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, 1},
		"long headers":           {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<10) + "\r\nContent-Length: 2\r\n\r\nok", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closes := strings.Contains(tc.answer, "Connection: close") || strings.Contains(tc.answer, "1.0") || strings.Contains(tc.answer, " 101 ")
			s := serve(t, func(conn net.Conn, n int, req *http.Request) bool { return answers(tc.answer)(conn, n, req) && !closes })
			tr := transport(t)
			first, _ := send(t, tr, request(t, s, nil))
			second, _ := send(t, tr, request(t, s, nil))
			require.Equal(t, first, second)
			require.NotEqual(t, 500, second)
			require.Equal(t, tc.connections, s.connections.Load())
		})
	}
}

func TestABodyThatWasNotReadToItsEndCostsTheConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(ok))
	tr := transport(t)
	answer, err := tr.Do(t.Context(), request(t, s, nil), patience)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	answer, err = tr.Do(t.Context(), request(t, s, nil), patience)
	require.NoError(t, err)
	_, err = io.ReadFull(answer.Body, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	send(t, tr, request(t, s, nil))
	require.EqualValues(t, 3, s.connections.Load())
}

func TestABodyMayEndWithItsConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, func(conn net.Conn, n int, req *http.Request) bool {
		answers("HTTP/1.1 200 OK\r\n\r\nuntil the end")(conn, n, req)
		return false
	})
	_, text := send(t, transport(t), request(t, s, nil))
	require.Equal(t, "until the end", text)
}

func TestAConnectionThatTheServerClosed(t *testing.T) {
	t.Parallel()
	t.Run("at the moment of the next request", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(conn net.Conn, n int, req *http.Request) bool { return n == 0 && answers(ok)(conn, n, req) })
		tr := transport(t)
		send(t, tr, request(t, s, []byte("body")))
		_, text := send(t, tr, request(t, s, []byte("body")))
		require.Equal(t, "ok", text)
		require.EqualValues(t, 3, s.requests.Load(), "the second one came twice")
		require.EqualValues(t, 2, s.connections.Load())
	})
	t.Run("a new one, without an answer", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(net.Conn, int, *http.Request) bool { return false })
		_, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
		require.ErrorIs(t, err, io.EOF)
		require.EqualValues(t, 1, s.requests.Load())
	})
}

// The reader of answers reports what was cut in the middle of a line as malformed.
func TestAnAnswerThatBreaksOffInALineSaysWhy(t *testing.T) {
	t.Parallel()
	half := answers("HTTP/1.1 200 OK\r\nContent-Le")
	t.Run("the connection ended", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(conn net.Conn, n int, req *http.Request) bool { return half(conn, n, req) && false })
		_, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	t.Run("the time was over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			_, err := piped(t, half).Do(t.Context(), request(t, &server{address: "127.0.0.1:1"}, nil), time.Second)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	})
}

func TestAnAnswerThatIsNone(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no HTTP":                    "SSH-2.0-OpenSSH\r\n\r\n",
		"headers without end":        "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10),
		"only informational answers": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 10),
		"half a status":              "HTTP/1.1 20",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(conn net.Conn, n int, req *http.Request) bool { return answers(text)(conn, n, req) && false })
			_, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
			require.Error(t, err)
			require.EqualValues(t, 1, s.requests.Load())
		})
	}
}

// piped is a transport whose connections are pipes to a server, so that they live by the clock of a bubble.
func piped(t *testing.T, each exchange) *http1.Transport {
	t.Helper()
	tr := transport(t)
	tr.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, conn := net.Pipe()
		go serveConn(conn, each)
		return client, nil
	}
	return tr
}

func TestTheTimeOfAnExchange(t *testing.T) {
	t.Parallel()
	const short, long = time.Second, time.Minute
	hang := func(before string) exchange {
		return func(conn net.Conn, n int, req *http.Request) bool {
			answers(before)(conn, n, req)
			_, _ = io.Copy(io.Discard, conn) // until the client gives up
			return false
		}
	}
	const start = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
	nobody := &server{address: "127.0.0.1:1"}
	for name, test := range map[string]func(t *testing.T){
		"ends the wait for an answer": func(t *testing.T) {
			t.Helper()
			_, err := piped(t, hang("")).Do(t.Context(), request(t, nobody, nil), short)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		},
		"ends the reading of its body": func(t *testing.T) {
			t.Helper()
			answer, err := piped(t, hang(start)).Do(t.Context(), request(t, nobody, nil), short)
			require.NoError(t, err)
			_, err = io.ReadAll(answer.Body)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, answer.Body.Close())
		},
		"may be shortened for the body": func(t *testing.T) {
			t.Helper()
			answer, err := piped(t, hang(start)).Do(t.Context(), request(t, nobody, nil), long)
			require.NoError(t, err)
			answer.Body.Limit(short)
			_, err = io.ReadAll(answer.Body)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, answer.Body.Close())
		},
		"ends with the context": func(t *testing.T) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(short, cancel)
			_, err := piped(t, hang("")).Do(ctx, request(t, nobody, nil), long)
			require.ErrorIs(t, err, context.Canceled)
		},
		"ends with the context, the body too": func(t *testing.T) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			answer, err := piped(t, hang(start)).Do(ctx, request(t, nobody, nil), long)
			require.NoError(t, err)
			time.AfterFunc(short, cancel)
			_, err = io.ReadAll(answer.Body)
			require.Error(t, err)
			answer.Body.Limit(long)
			_, err = io.ReadAll(answer.Body)
			require.Error(t, err, "the context has ended")
			require.NoError(t, answer.Body.Close())
		},
		"bounds connecting": func(t *testing.T) {
			t.Helper()
			tr := transport(t)
			tr.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			_, err := tr.Do(t.Context(), request(t, nobody, nil), short)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		},
		"leaves connecting to a context that ends before": func(t *testing.T) {
			t.Helper()
			tr := transport(t)
			tr.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			_, err := tr.Do(ctx, request(t, nobody, nil), long)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				test(t)
				require.Equal(t, short, time.Since(begun))
			})
		})
	}
}

func TestAConnectionOutlivesTheTimeOfItsLastRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(ok))
	tr := transport(t)
	for range 2 {
		answer, err := tr.Do(t.Context(), request(t, s, nil), patience)
		require.NoError(t, err)
		_, err = io.ReadAll(answer.Body)
		require.NoError(t, err)
		answer.Body.Limit(-time.Second) // its time is over before the connection is kept
		require.NoError(t, answer.Body.Close())
	}
	require.EqualValues(t, 1, s.connections.Load())
}

func TestNoHeaderBreaksTheRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(ok))
	for _, f := range []http1.Field{
		{"A", "b\r\nC: d"},
		{"A", "b\nc"},
		{"A", "b\rc"},
		{"A", "\x00"},
		{"", "c"},
		{"A: b", "c"},
		{"A\r\nB", "c"},
		{"A\nB", "c"},
		{"A B", "c"},
		{"A\tB", "c"},
		{"A\x00B", "c"},
	} {
		r := request(t, s, nil)
		r.Header = append(r.Header, f)
		_, err := transport(t).Do(t.Context(), r, patience)
		require.ErrorContains(t, err, "holds what no header can hold")
	}
	require.Zero(t, s.connections.Load())
}

func TestInformationalAnswersAreSkipped(t *testing.T) {
	t.Parallel()
	const hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	t.Run("five of them", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answers(strings.Repeat(hint, 5)+ok))
		answer, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status)
		require.Empty(t, answer.Header.Get("Link"), "of another answer")
		require.NoError(t, answer.Body.Close())
	})
	t.Run("not six", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answers(strings.Repeat(hint, 6)+ok))
		_, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
		require.ErrorContains(t, err, "too many informational answers")
	})
}

// The answers are complete: nothing but their length is wrong.
func TestTheHeadersOfAnAnswerHaveALimit(t *testing.T) {
	t.Parallel()
	const before, after = "HTTP/1.1 200 OK\r\nX: ", "\r\nContent-Length: 2\r\n\r\n"
	for name, tc := range map[string]struct {
		length int
		fits   bool
	}{
		"at the limit":    {64 << 10, true},
		"a byte too long": {64<<10 + 1, false},
		"far too long":    {1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			filler := strings.Repeat("x", tc.length-len(before)-len(after))
			s := serve(t, answers(before+filler+after+"ok"))
			answer, err := transport(t).Do(t.Context(), request(t, s, nil), patience)
			if !tc.fits {
				require.ErrorContains(t, err, "the headers of the answer are too long")
				return
			}
			require.NoError(t, err)
			require.Equal(t, filler, answer.Header.Get("X"))
			require.NoError(t, answer.Body.Close())
		})
	}
	t.Run("their bodies do not count", func(t *testing.T) {
		t.Parallel()
		s := serve(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("x", 200_000)))
		tr := transport(t)
		for range 2 {
			_, text := send(t, tr, request(t, s, nil))
			require.Len(t, text, 200_000)
		}
		require.EqualValues(t, 1, s.connections.Load())
	})
}

func TestAServerMayRefuseALongBodyUnread(t *testing.T) {
	t.Parallel()
	s := listen(t, func(conn *net.TCPConn, _ int) {
		for line, in := "", bufio.NewReader(conn); line != "\r\n"; { // the headers
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") // the test fails without it
	})
	answer, err := transport(t).Do(t.Context(), request(t, s, make([]byte, 32<<20)), patience)
	require.NoError(t, err)
	require.Equal(t, 413, answer.Status)
	require.NoError(t, answer.Body.Close())
	require.EqualValues(t, 1, s.connections.Load(), "it is not sent again")
}

// closings tells when connections are closed.
type closings struct {
	net.Conn
	n *atomic.Int64
}

func (c closings) Close() error {
	c.n.Add(1)
	return c.Conn.Close()
}

func TestIdleConnections(t *testing.T) {
	t.Parallel()
	build := func(t *testing.T, idle time.Duration) (*http1.Transport, *server, *atomic.Int64) {
		t.Helper()
		s, closed := serve(t, answers(ok)), &atomic.Int64{}
		tr := transport(t)
		tr.IdleTimeout = idle
		dial := tr.Dial
		tr.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return closings{conn, closed}, err
		}
		return tr, s, closed
	}
	all := func(t *testing.T, tr *http1.Transport, s *server, n int) {
		t.Helper()
		var open []*http1.Answer
		for range n {
			answer, err := tr.Do(t.Context(), request(t, s, nil), patience)
			require.NoError(t, err)
			open = append(open, answer)
		}
		for _, answer := range open {
			_, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
		}
	}
	t.Run("no more are kept than allowed", func(t *testing.T) {
		t.Parallel()
		tr, s, closed := build(t, time.Minute)
		all(t, tr, s, 6)
		require.EqualValues(t, 2, closed.Load())
	})
	t.Run("after a while they are closed", func(t *testing.T) {
		t.Parallel()
		tr, s, closed := build(t, 50*time.Millisecond)
		for round := range int64(2) {
			all(t, tr, s, 3)
			require.Eventually(t, func() bool { return closed.Load() == 3*(round+1) }, patience, 5*time.Millisecond)
		}
	})
	t.Run("Close closes them", func(t *testing.T) {
		t.Parallel()
		tr, s, closed := build(t, time.Minute)
		answer, err := tr.Do(t.Context(), request(t, s, nil), patience)
		require.NoError(t, err)
		all(t, tr, s, 1)
		tr.Close()
		require.EqualValues(t, 1, closed.Load())
		_, err = io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.EqualValues(t, 2, closed.Load())
	})
}

func TestEveryoneGetsTheirOwnAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, func(conn net.Conn, _ int, req *http.Request) bool {
		body, _ := io.ReadAll(req.Body)
		_, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return err == nil
	})
	tr := transport(t)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 50 {
				want := fmt.Sprintf("%d of %d", k, i)
				answer, err := tr.Do(t.Context(), request(t, s, []byte(want)), patience)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(answer.Body)
				if err != nil || string(got) != want {
					t.Errorf("%q instead of %q: %v", got, want, err)
				}
				_ = answer.Body.Close()
			}
		})
	}
	all.Wait()
}

func TestWhatIsHandled(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"http://example.com/a": true, "http://[::1]:8080/": true, "http://127.0.0.1": true,
		"https://example.com/a": false, "http://bücher.example/": false, "http://[fe80::1%25eth0]/": false,
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, http1.Handles(u), text)
	}
}

func TestWhatIsDialled(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://example.com/a": "example.com:80", "http://[::1]/": "[::1]:80", "http://[::1]:8080/": "[::1]:8080", "http://a:81": "a:81",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		got := ""
		tr := &http1.Transport{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			got = address
			return nil, io.ErrUnexpectedEOF
		}}
		_, err = tr.Do(t.Context(), &http1.Request{Method: http.MethodGet, URL: u}, patience)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, want, got)
	}
}
