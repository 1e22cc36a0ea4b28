package middleware

import (
	"context"
	"sync"
	"time"
)

// deadline is a context like that of context.WithDeadline. But for its timer, and its place in the list of its parent, it
// waits until somebody asks for Done: most attempts of fast actions never do.
type deadline struct {
	context.Context // the parent
	at              time.Time

	mu     sync.Mutex // guards what follows
	ended  bool
	armed  context.Context // what stands for this one once it can be told from its parent
	cancel context.CancelFunc
}

// withTimeout returns a context that ends after d, or with parent. Its end function must be called.
func withTimeout(parent context.Context, d time.Duration) *deadline {
	at := time.Now().Add(d)
	if earlier, ok := parent.Deadline(); ok && earlier.Before(at) {
		at = earlier
	}
	return &deadline{Context: parent, at: at}
}

// Deadline implements context.Context.
func (c *deadline) Deadline() (time.Time, bool) { return c.at, true }

// Done implements context.Context.
func (c *deadline) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arm().Done()
}

// Err implements context.Context.
func (c *deadline) Err() error { return c.current().Err() }

// Value implements context.Context. Package context asks it for the context that ends this one, and why; everything else
// is the parent's, at any time.
func (c *deadline) Value(key any) any {
	value := c.Context.Value(key)
	if _, isContext := value.(context.Context); value != nil && !isContext {
		return value
	}
	return c.current().Value(key)
}

// current returns the parent as long as this context cannot be told from it.
func (c *deadline) current() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed == nil && !c.ended && time.Now().Before(c.at) {
		return c.Context
	}
	return c.arm()
}

func (c *deadline) arm() context.Context {
	switch {
	case c.armed != nil:
	case c.ended:
		c.armed, c.cancel = context.WithCancel(c.Context)
		c.cancel()
	default:
		c.armed, c.cancel = context.WithDeadline(c.Context, c.at)
	}
	return c.armed
}

// end cancels the context, also for those who ask it later.
func (c *deadline) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
