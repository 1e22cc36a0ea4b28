// Package batch sends together what concurrent callers ask a server for.
package batch

import (
	"context"
	"sync"
)

// Batcher collects requests while one batch is under way and sends them as the next: a lone caller waits for nobody, and
// many share a round trip. It keeps no goroutine while nothing is asked.
type Batcher[Q, A any] struct {
	limit int
	send  func([]Q) []Answer[A]

	mu      sync.Mutex // guards what follows
	waiting []call[Q, A]
	sending bool
	senders sync.WaitGroup
}

// Answer is what one request of a batch came to.
type Answer[A any] struct {
	Value A
	Err   error
}

type call[Q, A any] struct {
	request Q
	answer  chan Answer[A]
}

// New returns a Batcher of at most limit requests a batch. send returns an answer for each request, in their order; it bounds
// its own time, and runs in one goroutine at a time.
func New[Q, A any](limit int, send func([]Q) []Answer[A]) *Batcher[Q, A] {
	return &Batcher[Q, A]{limit: limit, send: send}
}

// Do waits for the answer to a request, or until ctx ends; the request may be sent all the same then.
func (b *Batcher[Q, A]) Do(ctx context.Context, request Q) (A, error) {
	c := call[Q, A]{request, make(chan Answer[A], 1)} // one slot: its caller may be gone
	b.enqueue(c)
	select {
	case a := <-c.answer:
		return a.Value, a.Err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// Wait returns when nothing is under way any more. Nobody calls Do from then on.
func (b *Batcher[Q, A]) Wait() { b.senders.Wait() }

func (b *Batcher[Q, A]) enqueue(c call[Q, A]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, c)
	if !b.sending {
		b.sending = true
		b.senders.Go(b.sendAll)
	}
}

func (b *Batcher[Q, A]) sendAll() {
	for batch := b.next(); batch != nil; batch = b.next() {
		requests := make([]Q, len(batch))
		for i, c := range batch {
			requests[i] = c.request
		}
		for i, a := range b.send(requests) {
			batch[i].answer <- a
		}
	}
}

// next takes the next batch, nil at the end of the sending.
func (b *Batcher[Q, A]) next() []call[Q, A] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), b.limit)
	if n == 0 {
		b.waiting, b.sending = nil, false
		return nil
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}
