package middleware

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer/internal/outage"
)

const (
	patienceTimeout = time.Second // for one call: who waits for it holds a slot
	patienceRest    = time.Second // between two calls while they fail
)

// begun is what moments are counted from, by the monotonic clock: the wall clock may be set while a rest lasts.
var begun = time.Now()

// patience makes calls to a server that one can do without. While they fail or hang, one caller at a time asks, once a
// second, and the others go on without: so nobody is held up for long.
type patience struct {
	trouble *outage.Log
	restEnd atomic.Int64 // until when nobody asks, as time after begun; 0: all is well
}

// call calls ask, or does not.
func (p *patience) call(ctx context.Context, ask func(context.Context) error) {
	if !p.awake() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, patienceTimeout)
	defer cancel()
	err := ask(limited)
	switch {
	case err == nil:
		p.restEnd.Store(0)
		p.trouble.OK()
	case ctx.Err() == nil: // it is not the caller who ended it
		p.restEnd.Store(int64(time.Since(begun) + patienceRest))
		p.trouble.Failed(err)
	}
}

// awake reports whether the caller is to ask. After a failure one caller is, each time the rest is over.
func (p *patience) awake() bool {
	end := p.restEnd.Load()
	if end == 0 {
		return true
	}
	now := time.Since(begun)
	return int64(now) >= end && p.restEnd.CompareAndSwap(end, int64(now+patienceTimeout+patienceRest))
}
