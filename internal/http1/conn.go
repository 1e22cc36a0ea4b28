package http1

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxInformational is how many 1xx answers may come before the real one.
const maxInformational = 5

// conn is one connection, used by one request at a time.
type conn struct {
	net.Conn
	*looker
	owner   *Transport
	address string
	in      *bufio.Reader // of the conn, whose Read counts
	out     *bufio.Writer
	since   time.Time // idle
	left    int64     // what may still be read of the headers
	heard   bool      // something of the answer came
	failed  error     // of reading, which the parser of answers does not tell in the middle of a line
}

var (
	errLongHeaders = errors.New("the headers of the answer are too long")
	errUnasked     = errors.New("the server answered before it was asked")
)

// sight is what a look at a connection finds on which no answer is due.
type sight int

const (
	unseen sight = iota // nothing can be said
	quiet
	spoken // the server has sent something
	ended
)

func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.failed = errLongHeaders
		return 0, errLongHeaders
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if n > 0 {
		c.heard = true
	}
	if err != nil {
		c.failed = err
	}
	return n, err
}

// prepare gives the connection the deadline of the next exchange and looks at it. What the server says before it is asked
// would be taken for the answer to the next request, and that one's answer for the one after it.
func (c *conn) prepare(deadline time.Time) sight {
	_ = c.SetDeadline(deadline) // fails on a closed connection, as the look does
	return c.look()
}

// exchange sends a request and reads the headers of its answer. After an error the connection is closed.
func (c *conn) exchange(ctx context.Context, r *Request) (*Answer, error) {
	c.heard, c.failed, c.left = false, nil, c.owner.MaxHeaderBytes
	ended := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0)) // whoever waits for the connection notices
	})
	sent := c.send(r)
	// Also when sending failed: a server that refuses a long body says why before it closes. The wait stands here, where the
	// stack is shallow, since few goroutines have to grow theirs then.
	var resp *http.Response
	_, err := c.in.Peek(1)
	if err == nil {
		resp, err = c.receive() //nolint:bodyclose // the answer closes it
	}
	if err != nil {
		ended()
		_ = c.Close() // the error says more
		return nil, cmp.Or(ctx.Err(), sent, err)
	}
	c.left = math.MaxInt64
	b := &body{ReadCloser: resp.Body, conn: c, ctx: ctx, ended: ended, keep: sent == nil && !resp.Close, whole: resp.Body == http.NoBody}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Length: resp.ContentLength, Body: b}, nil
}

func (c *conn) send(r *Request) error {
	w := c.out // keeps its first error until Flush
	_, _ = w.WriteString(r.Method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(r.URL.RequestURI())
	_, _ = w.WriteString(" HTTP/1.1\r\nHost: ")
	_, _ = w.WriteString(r.URL.Host)
	for _, f := range r.Header {
		_, _ = w.WriteString("\r\n")
		_, _ = w.WriteString(f.Name)
		_, _ = w.WriteString(": ")
		_, _ = w.WriteString(f.Value)
	}
	if r.Body != nil || r.Method != http.MethodGet {
		_, _ = w.WriteString("\r\nContent-Length: ")
		_, _ = w.Write(strconv.AppendInt(w.AvailableBuffer(), int64(len(r.Body)), 10))
	}
	_, _ = w.WriteString("\r\n\r\n")
	_, _ = w.Write(r.Body)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// receive reads the headers of the answer.
func (c *conn) receive() (*http.Response, error) {
	for range maxInformational + 1 {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return nil, c.unreadable(err)
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			resp.Close = true // nobody asked for it
			return resp, nil
		case resp.StatusCode >= http.StatusOK:
			return resp, nil
		}
	}
	return nil, errors.New("receive: too many informational answers")
}

// unreadable says why an answer cannot be read.
func (c *conn) unreadable(err error) error {
	if c.failed == io.EOF { //nolint:errorlint // a connection says it so
		return fmt.Errorf("receive: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("receive: %w", cmp.Or(c.failed, err))
}

// body is what follows the headers.
type body struct {
	io.ReadCloser
	conn  *conn
	ctx   context.Context //nolint:containedctx // of the exchange, which ends with the body
	ended func() bool     // stops watching ctx
	keep  bool            // the connection may serve again
	whole bool            // read to its end
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.whole = true
	}
	return n, err
}

// Limit implements Body.
func (b *body) Limit(d time.Duration) {
	_ = b.conn.SetDeadline(time.Now().Add(d)) // fails on a closed connection, as reading does
	if b.ctx.Err() != nil {
		_ = b.conn.SetDeadline(time.Unix(1, 0)) // it may have ended just before
	}
}

// Close gives the connection back, or closes it. It may be called again.
func (b *body) Close() error {
	if b.conn == nil {
		return nil
	}
	c := b.conn
	b.conn = nil
	if b.ended() && b.keep && b.whole && c.in.Buffered() == 0 {
		c.owner.put(c)
		return nil
	}
	return c.Close()
}
