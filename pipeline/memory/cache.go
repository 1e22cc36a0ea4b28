package memory

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/fraiseql/observer/middleware"
)

// resultsLimit bounds the memory of [Results] to about four megabytes.
const resultsLimit = 20_000

// Results are successes that this process remembers, the latest 20,000 of them.
type Results struct {
	mu    sync.Mutex // guards what follows
	order list.List  // of result, the one that was put first in front
	byKey map[string]*list.Element
}

type result struct {
	key string
	end time.Time
}

var _ middleware.ResultStore = (*Results)(nil)

// NewResults returns Results that hold nothing.
func NewResults() *Results { return &Results{byKey: map[string]*list.Element{}} }

// Has implements middleware.ResultStore.
func (r *Results) Has(_ context.Context, key string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byKey[key]
	return e != nil && time.Now().Before(e.Value.(result).end), nil
}

// Put implements middleware.ResultStore.
func (r *Results) Put(_ context.Context, key string, ttl time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.remove(r.byKey[key])
	r.byKey[key] = r.order.PushBack(result{key, now.Add(ttl)})
	for e := r.order.Front(); e != nil && (r.order.Len() > resultsLimit || !now.Before(e.Value.(result).end)); e = r.order.Front() {
		r.remove(e)
	}
	return nil
}

func (r *Results) remove(e *list.Element) {
	if e != nil {
		delete(r.byKey, r.order.Remove(e).(result).key)
	}
}
