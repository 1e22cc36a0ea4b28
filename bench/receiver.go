package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// answer is all that a receiver ever says.
var answer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

// receiver is an HTTP server that does as little as one can, so that the machine is there for who posts.
type receiver struct {
	listener net.Listener
	delay    time.Duration // before the answer
	arrived  func(body []byte)
	answered func()

	running sync.WaitGroup
	mu      sync.Mutex // guards what follows
	open    map[net.Conn]struct{}
	err     error
}

// receive starts a receiver. arrived is called with each body, which it must not keep; answered after the answer.
func receive(ctx context.Context, delay time.Duration, arrived func(body []byte), answered func()) (*receiver, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start receiver: %w", err)
	}
	r := &receiver{listener: listener, delay: delay, arrived: arrived, answered: answered, open: map[net.Conn]struct{}{}}
	r.running.Go(r.accept)
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.listener.Addr().String() + "/hook" }

// close ends every connection and returns the first error of one that was no HTTP.
func (r *receiver) close() error {
	err := r.listener.Close()
	r.mu.Lock()
	for conn := range r.open {
		_ = conn.Close() // the reading goroutine sees it
	}
	r.mu.Unlock()
	r.running.Wait()
	return errors.Join(err, r.err)
}

func (r *receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.open[conn] = struct{}{}
		r.mu.Unlock()
		r.running.Go(func() { r.serve(conn) })
	}
}

func (r *receiver) serve(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 16<<10)
	var err error
	for err == nil {
		err = r.request(conn, in)
	}
	_ = conn.Close() // the answers that count were written
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, conn)
	if malformed := (*strconv.NumError)(nil); errors.As(err, &malformed) && r.err == nil {
		r.err = fmt.Errorf("receive: %w", err)
	}
}

var contentLength = []byte("Content-Length: ")

func (r *receiver) request(conn net.Conn, in *bufio.Reader) error {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if err := r.body(in, length); err != nil {
		return err
	}
	if r.delay > 0 {
		<-time.After(r.delay)
	}
	_, err := conn.Write(answer)
	r.answered()
	return err
}

// body hands the body over where it is when it fits the buffer.
func (r *receiver) body(in *bufio.Reader, length int) error {
	if length > in.Size() {
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return err
		}
		r.arrived(body)
		return nil
	}
	body, err := in.Peek(length)
	if err != nil {
		return err
	}
	r.arrived(body)
	_, err = in.Discard(length)
	return err
}
