package middleware

import (
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// CacheKey names what handling a message does: two messages with one key do the same, so that one of them may be skipped.
// With "" or an error the message is handled and nothing is remembered: what cannot be named fails by itself, and says so.
type CacheKey func(msg *message.Message) (string, error)

// Cache skips a message whose key was handled with success lately, as results remembers it. Of messages with one key that
// come at the same time one is handled; the others wait for it and are skipped when it succeeded, else each is handled.
// A message that is skipped gives no messages.
func Cache(results *Results, key CacheKey) message.HandlerMiddleware {
	running := &flights{byKey: map[string]*flight{}}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			k, err := key(msg)
			if err != nil || k == "" {
				return next(msg)
			}
			f, first := running.join(k)
			if !first {
				return f.follow(k, results, next, msg)
			}
			defer running.forget(k)
			return f.lead(k, results, next, msg)
		}
	}
}

// flights are the keys that are handled now.
type flights struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*flight
}

// join returns the flight of key, and whether the caller is its first and must lead it.
func (r *flights) join(key string) (f *flight, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f = r.byKey[key]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	r.byKey[key] = f
	return f, true
}

func (r *flights) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byKey, key)
}

// flight is one key that is handled now.
type flight struct {
	once      sync.Once
	done      chan struct{} // closed once succeeded says what came of it
	succeeded bool
}

func (f *flight) land(succeeded bool) {
	f.once.Do(func() {
		f.succeeded = succeeded
		close(f.done)
	})
}

// lead handles msg unless its key is remembered. Those who follow need not wait until the success is remembered as well.
func (f *flight) lead(key string, results *Results, next message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
	defer f.land(false) // also after a panic
	if results.has(msg.Context(), key) {
		f.land(true)
		return nil, nil
	}
	msgs, err := next(msg)
	if err == nil {
		f.land(true)
		results.put(msg.Context(), key)
	}
	return msgs, err
}

// follow waits for the one who leads.
func (f *flight) follow(key string, results *Results, next message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
	select {
	case <-f.done:
	case <-msg.Context().Done():
		return nil, msg.Context().Err()
	}
	results.looked(f.succeeded)
	if f.succeeded {
		return nil, nil
	}
	msgs, err := next(msg)
	if err == nil {
		results.put(msg.Context(), key)
	}
	return msgs, err
}
