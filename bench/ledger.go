package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ledger is what a receiver notes: which changes came, how often, and whether those of one entity came in order.
type ledger struct {
	after int64 // changes count from the log's row after this one
	want  int64
	keep  func(body []byte) // nil: bodies are not kept

	begun       time.Time
	first, last atomic.Int64 // nanoseconds after begun: the first arrival, and the answer to the last change
	seen        []atomic.Bool
	highest     []atomic.Int64 // by entity
	distinct    atomic.Int64
	twice       atomic.Int64
	disordered  atomic.Int64
	alien       atomic.Int64 // no change that was written
	answered    atomic.Int64
	once        sync.Once
	all         chan struct{} // closed when every change was answered
}

// newLedger expects changes of entities whose ids are numbers below entities.
func newLedger(after, want, entities int64) *ledger {
	return &ledger{
		after: after, want: want, begun: time.Now(),
		seen: make([]atomic.Bool, want), highest: make([]atomic.Int64, entities), all: make(chan struct{}),
	}
}

var (
	seqKey    = []byte(`,"seq":`)
	entityKey = []byte(`"entity_id":"`)
)

// number returns the number behind the key in body, -1 when there is none.
func number(body, key []byte, find func(s, sep []byte) int) int64 {
	at := find(body, key)
	if at < 0 {
		return -1
	}
	text := body[at+len(key):]
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(text[:end]), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (l *ledger) arrived(body []byte) {
	if l.first.Load() == 0 {
		l.first.CompareAndSwap(0, int64(time.Since(l.begun)))
	}
	seq := number(body, seqKey, bytes.LastIndex)
	at := seq - l.after - 1
	if at < 0 || at >= l.want {
		l.alien.Add(1)
		return
	}
	if l.seen[at].Swap(true) {
		l.twice.Add(1)
		return
	}
	l.distinct.Add(1)
	if id := number(body, entityKey, bytes.Index); id >= 0 && id < int64(len(l.highest)) && l.highest[id].Swap(seq) > seq {
		l.disordered.Add(1)
	}
	if l.keep != nil {
		l.keep(body)
	}
}

func (l *ledger) answer() {
	if answered := l.answered.Add(1); l.distinct.Load() == l.want && answered == l.want+l.twice.Load()+l.alien.Load() {
		l.once.Do(func() {
			l.last.Store(int64(time.Since(l.begun)))
			close(l.all)
		})
	}
}

// wait waits until all changes were answered.
func (l *ledger) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	select {
	case <-l.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %d webhooks: %w: %d came", l.want, ctx.Err(), l.answered.Load())
	}
}

// rate is changes a second, from the first arrival to the last answer.
func (l *ledger) rate() float64 {
	return float64(l.want) / time.Duration(l.last.Load()-l.first.Load()).Seconds()
}

// counts are what must be zero.
func (l *ledger) counts() counts {
	return counts{lost: l.want - l.distinct.Load(), twice: l.twice.Load() + l.alien.Load(), disordered: l.disordered.Load()}
}
