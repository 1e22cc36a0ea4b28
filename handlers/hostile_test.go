package handlers_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
)

// hostile is a receiver that does what none should. Its zero class stands for a request that is done.
type hostile struct {
	talk        func(net.Conn) // after it read a request
	class       string
	permanent   bool
	least, most time.Duration // that it asks to wait
}

// rawServer starts a server that does with each request what it is told, and hangs up. talk is nil when nobody listens, on a
// port that no other server can get.
func rawServer(tb testing.TB, talk func(net.Conn)) (url string, requests *atomic.Int64) {
	tb.Helper()
	if talk == nil {
		return "http://127.0.0.1:1", &atomic.Int64{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	url, requests = "http://"+l.Addr().String(), &atomic.Int64{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				requests.Add(1)
				talk(c)
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return url, requests
}

// say answers with a text.
func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// hang answers with a text and then keeps the connection until the client gives up.
func hang(text string) func(net.Conn) {
	return func(c net.Conn) {
		say(text)(c)
		_, _ = io.Copy(io.Discard, c)
	}
}

// drip answers with a text and then byte for byte, so slowly that it would never come to an end.
func drip(text, b string) func(net.Conn) {
	return func(c net.Conn) {
		for _, err := io.WriteString(c, text); err == nil; _, err = io.WriteString(c, b) {
			<-time.After(20 * time.Millisecond)
		}
	}
}

// flood answers with a text and then with 10 GiB.
func flood(text string, chunk []byte) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, text)
		for n := 0; n < 10<<30 && err == nil; n += len(chunk) {
			_, err = c.Write(chunk)
		}
	}
}

// reset answers with a text and then breaks the connection.
func reset(text string) func(net.Conn) {
	return func(c net.Conn) {
		say(text)(c)
		<-time.After(5 * time.Millisecond) // for the text to arrive
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

func status(code int, header string) func(net.Conn) {
	return say(fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: 0\r\n%s\r\n", code, header))
}

// bomb is a gzip member that becomes a thousand times as long. Many of them are a gzip stream, too.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 8<<20))
	_ = z.Close()
	return b.Bytes()
})

// hostiles lists them. elsewhere is the URL of a server that nobody may be led to.
func hostiles(elsewhere string) map[string]hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	zeros := bytes.Repeat([]byte("0"), 64<<10)
	list := map[string]hostile{
		"nobody listens":                 {nil, "refused", false, 0, 0},
		"hangs":                          {hang(""), "timeout", false, 0, 0},
		"hangs in the status line":       {hang("HTTP/1.1 2"), "timeout", false, 0, 0},
		"hangs in the headers":           {hang(ok + "Content-Le"), "timeout", false, 0, 0},
		"drips a status line":            {drip("HTTP/1.1 200 ", "x"), "timeout", false, 0, 0},
		"drips a header":                 {drip(ok+"X: ", "x"), "timeout", false, 0, 0},
		"drips headers":                  {drip(ok, "X: y\r\n"), "timeout", false, 0, 0},
		"hangs in the body":              {hang(ok + "Content-Length: 100\r\n\r\nhalf"), "", false, 0, 0},
		"hangs in a chunk":               {hang(ok + "Transfer-Encoding: chunked\r\n\r\n10\r\nhalf"), "", false, 0, 0},
		"hangs in the body of an error":  {hang("HTTP/1.1 500 x\r\nContent-Length: 100\r\n\r\nhalf"), "http_500", false, 0, 0},
		"drips a body":                   {drip(ok+"Content-Length: 1000000\r\n\r\n", "x"), "", false, 0, 0},
		"drips a body without an end":    {drip(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), "", false, 0, 0},
		"drips the body of a refusal":    {drip("HTTP/1.1 400 x\r\nContent-Length: 1000000\r\n\r\n", "x"), "http_400", true, 0, 0},
		"10 GB":                          {flood(ok+"Content-Length: 10737418240\r\n\r\n", zeros), "", false, 0, 0},
		"10 GB that end with the line":   {flood(ok+"\r\n", zeros), "", false, 0, 0},
		"10 GB of an error":              {flood("HTTP/1.1 503 x\r\nContent-Length: 10737418240\r\n\r\n", zeros), "http_503", false, 0, 0},
		"a gzip bomb":                    {flood(ok+"Content-Encoding: gzip\r\n\r\n", bomb()), "", false, 0, 0},
		"a gzip bomb as error":           {flood("HTTP/1.1 400 x\r\nContent-Encoding: gzip\r\n\r\n", bomb()), "http_400", true, 0, 0},
		"chunks that are none":           {say(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "", false, 0, 0},
		"a body that is shorter":         {say(ok + "Content-Length: 100\r\n\r\nhalf"), "", false, 0, 0},
		"a header of 10 GB":              {flood(ok+"X: ", zeros), "network", false, 0, 0},
		"headers of 10 GB":               {flood(ok, []byte(strings.Repeat("X: y\r\n", 10_000))), "network", false, 0, 0},
		"a status line of 10 GB":         {flood("HTTP/1.1 200 ", zeros), "network", false, 0, 0},
		"informational answers forever":  {flood("", []byte(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000))), "network", false, 0, 0},
		"two lengths":                    {say(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), "network", false, 0, 0},
		"a negative length":              {say(ok + "Content-Length: -1\r\n\r\n"), "network", false, 0, 0},
		"a header without a name":        {say(ok + ": x\r\n\r\n"), "network", false, 0, 0},
		"hangs up":                       {say(""), "reset", false, 0, 0},
		"hangs up in the headers":        {say(ok + "X: y"), "reset", false, 0, 0},
		"resets":                         {reset(""), "reset", false, 0, 0},
		"resets in the headers":          {reset(ok + "X: y\r\n"), "reset", false, 0, 0},
		"resets in the body":             {reset(ok + "Content-Length: 100\r\n\r\nhalf"), "", false, 0, 0},
		"resets in the body of an error": {reset("HTTP/1.1 502 x\r\nContent-Length: 100\r\n\r\nhalf"), "http_502", false, 0, 0},
		"wants another protocol":         {say("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), "http_101", true, 0, 0},
		"redirects to itself":            {status(307, "Location: /\r\n"), "http_307", true, 0, 0},
		"429 for a while":                {status(429, "Retry-After: 17\r\n"), "http_429", false, 17 * time.Second, 17 * time.Second},
		"503 for a while":                {status(503, "Retry-After: 3600\r\n"), "http_503", false, time.Hour, time.Hour},
		"503 until a date": {
			status(503, "Retry-After: "+time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat)+"\r\n"), "http_503", false, 5 * time.Minute, 10 * time.Minute,
		},
		"429 until a date that was":    {status(429, "Retry-After: Mon, 02 Jan 2006 15:04:05 GMT\r\n"), "http_429", false, 0, 0},
		"429 until a far date":         {status(429, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n"), "http_429", false, time.Hour, time.Hour},
		"429 for more than an hour":    {status(429, "Retry-After: 86400\r\n"), "http_429", false, time.Hour, time.Hour},
		"429 for 2^63-1 seconds":       {status(429, "Retry-After: 9223372036854775807\r\n"), "http_429", false, time.Hour, time.Hour},
		"429 for ever":                 {status(429, "Retry-After: 99999999999999999999999\r\n"), "http_429", false, time.Hour, time.Hour},
		"429 for less than nothing":    {status(429, "Retry-After: -5\r\n"), "http_429", false, 0, 0},
		"429 for far less":             {status(429, "Retry-After: -9223372036854775807\r\n"), "http_429", false, 0, 0},
		"429 for least of all":         {status(429, "Retry-After: -99999999999999999999999\r\n"), "http_429", false, 0, 0},
		"429 for nonsense":             {status(429, "Retry-After: soon\r\n"), "http_429", false, 0, 0},
		"400 that asks to come again":  {status(400, "Retry-After: 5\r\n"), "http_400", true, 0, 0},
		"a status of a thousand":       {say("HTTP/1.1 1000 x\r\n\r\n"), "network", false, 0, 0},
		"a status below nothing":       {say("HTTP/1.1 -20 x\r\n\r\n"), "network", false, 0, 0},
		"a status of letters":          {say("HTTP/1.1 abc OK\r\n\r\n"), "network", false, 0, 0},
		"a status that is too short":   {say("HTTP/1.1 20\r\n\r\n"), "network", false, 0, 0},
		"a version that is none":       {say("HTTP/x 200 OK\r\n\r\n"), "network", false, 0, 0},
		"the protocol of a radio":      {say("ICY 200 OK\r\n\r\n"), "network", false, 0, 0},
		"the protocol of a shell":      {say("SSH-2.0-x\r\n" + strings.Repeat("x", 1000) + "\r\n"), "network", false, 0, 0},
		"the protocol of TLS":          {say("\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), "network", false, 0, 0},
		"HTTP/2 without being asked":   {say("\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n"), "network", false, 0, 0},
		"an empty line":                {say("\r\n\r\n"), "network", false, 0, 0},
		"a request in place of answer": {say("POST / HTTP/1.1\r\nHost: x\r\n\r\n"), "network", false, 0, 0},
	}
	for _, code := range []int{300, 301, 302, 303, 304, 305, 307, 308} {
		list[strconv.Itoa(code)+" to another host"] = hostile{status(code, "Location: "+elsewhere+"/\r\n"), fmt.Sprintf("http_%d", code), true, 0, 0}
	}
	return list
}

// timeout is short for those who use all of it, and endless for the others. Whoever waits for that takes longer than
// tooLong, which a busy machine does not.
func (h hostile) timeout() int {
	if h.class == "timeout" {
		return 600
	}
	return 3600_000
}

const tooLong = 30 * time.Second

// judge compares what came of a request with what should have.
func (h hostile) judge(err error) error {
	switch delay := event.RetryDelay(err); {
	case (err == nil) != (h.class == ""):
		return fmt.Errorf("the outcome is %w", err)
	case err == nil:
		return nil
	case event.Class(err) != h.class:
		return fmt.Errorf("the class is %s, not %s: %w", event.Class(err), h.class, err)
	case event.IsPermanent(err) != h.permanent:
		return fmt.Errorf("permanent is %t: %w", event.IsPermanent(err), err)
	case delay < h.least || delay > h.most:
		return fmt.Errorf("the delay is %s: %w", delay, err)
	case strings.Contains(err.Error(), "s3cret"), len(err.Error()) > 700:
		return fmt.Errorf("says too much: %w", err)
	}
	return nil
}

func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	elsewhere, led := receiver(t, nil)
	for name, tc := range hostiles(elsewhere) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := rawServer(t, tc.talk)
			start := time.Now()
			err := webhook(t, handlers.WebhookConfig{URL: secret.String(url + "/s3cret?t=s3cret"), TimeoutMS: tc.timeout()}).Run(t.Context(), delivery(`{}`))
			require.Less(t, time.Since(start), tooLong)
			require.NoError(t, tc.judge(err))
			if err != nil {
				require.ErrorContains(t, err, "POST "+url+": ")
			}
			require.LessOrEqual(t, requests.Load(), int64(1), "it is asked once")
		})
	}
	t.Cleanup(func() { require.Empty(t, led, "a redirect is not followed") })
}

func TestHostileStatusOfEachKind(t *testing.T) {
	t.Parallel()
	url := quietServer(t, func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/s3cret/"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	})
	action := webhook(t, handlers.WebhookConfig{URL: secret.String(url + "/s3cret/{{ data.code }}")})
	comesBack := []int{404, 408, 409, 425, 429}
	for code := 200; code < 1000; code++ {
		err := action.Run(t.Context(), delivery(fmt.Sprintf(`{"code": %d}`, code)))
		if code < 300 {
			require.NoError(t, err, code)
			continue
		}
		require.ErrorContains(t, err, fmt.Sprintf("POST %s: %d", url, code))
		require.NotContains(t, err.Error(), "s3cret")
		require.Equal(t, fmt.Sprintf("http_%d", code), event.Class(err))
		require.Equal(t, code < 500 && !slices.Contains(comesBack, code), event.IsPermanent(err), code)
	}
}

func TestHostileTLS(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]hostile{
		"plain HTTP": {talk: say("HTTP/1.1 400 Bad Request\r\n\r\n"), class: "tls"},
		"nothing":    {talk: say(""), class: "reset"},
		"silence":    {talk: hang(""), class: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			var running sync.WaitGroup
			running.Go(func() {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = c.Close() }()
				_, _ = c.Read(make([]byte, 4096))
				tc.talk(c)
			})
			t.Cleanup(running.Wait)
			t.Cleanup(func() { _ = l.Close() })
			start := time.Now()
			err = webhook(t, handlers.WebhookConfig{URL: secret.String("https://" + l.Addr().String() + "/s3cret"), TimeoutMS: tc.timeout()}).Run(t.Context(), delivery(`{}`))
			require.NoError(t, tc.judge(err))
			require.Less(t, time.Since(start), tooLong)
		})
	}
}

func TestHostileSilenceUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	url, _ := rawServer(t, hang(""))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := webhook(t, handlers.WebhookConfig{URL: secret.String(url)}).Run(ctx, delivery(`{}`))
	require.EqualError(t, err, "POST "+url+": no answer in time")
	require.Equal(t, "timeout", event.Class(err))
	require.False(t, event.IsPermanent(err))
	require.NotErrorIs(t, err, context.Canceled)
}

// TestHostileReceiversHurtNobodyElse is not parallel: it measures.
func TestHostileReceiversHurtNobodyElse(t *testing.T) {
	const workers, megabyte = 24, 1 << 20
	requests, quiet := 2000, 2*time.Second
	if testing.Short() {
		requests, quiet = 400, time.Second/2
	}
	elsewhere, led := receiver(t, nil)
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: workers})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	build := func(url string, timeout int) handlers.Action {
		action, err := handlers.NewWebhook(&handlers.WebhookConfig{URL: secret.String(url + "/s3cret"), TimeoutMS: timeout}, handlers.Env{HTTP: h})
		require.NoError(t, err)
		return action
	}
	good := build(quietServer(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), 5000)

	type bad struct {
		name string
		hostile
		handlers.Action
	}
	var list []bad
	for name, tc := range hostiles(elsewhere) {
		url, _ := rawServer(t, tc.talk)
		list = append(list, bad{name, tc, build(url, tc.timeout())})
	}
	run := func(n int) {
		next := make(chan bad, n)
		for i := range n {
			next <- list[i%len(list)]
		}
		close(next)
		var running sync.WaitGroup
		for range workers {
			running.Go(func() {
				for b := range next {
					start := time.Now()
					if err := b.judge(b.Run(t.Context(), delivery(`{}`))); err != nil {
						t.Errorf("%s: %v", b.name, err)
					}
					if took := time.Since(start); took > tooLong {
						t.Errorf("%s took %s", b.name, took)
					}
				}
			})
		}
		running.Wait()
	}
	run(len(list)) // what is made once is there
	alone := p99(t, good, func() { <-time.After(quiet) })
	before, peak := heap(), int64(0)
	amidst := p99(t, good, func() { peak = highest(func() { run(requests) }) })
	t.Logf("healthy receiver: p99 %s alone, %s amidst; heap: %d KiB before, %d at most", alone, amidst, before>>10, peak>>10)
	require.Less(t, amidst, alone+450*time.Millisecond, "who waits behind a hostile receiver waits for its 600 ms, or the 500 of an unread answer")
	require.Less(t, peak-before, int64(64*megabyte))
	testenv.Eventually(t, 10*time.Second, func() error {
		if grown := heap() - before; grown > 4*megabyte {
			return fmt.Errorf("the heap has grown by %d KiB", grown>>10)
		}
		return nil
	})
	require.Empty(t, led)
}

// quietServer is a receiver that keeps nothing of what it got.
func quietServer(t *testing.T, handler http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// p99 keeps posting while work runs.
func p99(t *testing.T, action handlers.Action, work func()) time.Duration {
	t.Helper()
	var (
		took    []time.Duration
		running sync.WaitGroup
	)
	done := make(chan struct{})
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			start := time.Now()
			if err := action.Run(t.Context(), delivery(`{}`)); err != nil {
				t.Errorf("healthy receiver: %v", err)
			}
			took = append(took, time.Since(start))
		}
	})
	work()
	close(done)
	running.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

func heap() int64 {
	runtime.GC()
	return live()
}

func live() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// highest returns the largest heap while work runs.
func highest(work func()) (most int64) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			most = max(most, live())
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	work()
	close(done)
	running.Wait()
	return most
}
