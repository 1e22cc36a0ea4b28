package middleware

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// breakerPause is how long a store that failed is left alone. A server that hangs would else cost every delivery its time.
const breakerPause = time.Second

// ErrStoreAway is the error of a call that was not made, since the store failed a moment ago.
var ErrStoreAway = errors.New("the store did not answer a moment ago")

// DedupBreaker stands before a store that all actions share. After a failure it lets one call through each second and
// refuses the others with ErrStoreAway, until one is answered.
type DedupBreaker struct {
	store DedupStore
	since time.Time
	// next is when a call may try, as time after since; 0 while the store answers.
	next atomic.Int64
}

var _ DedupStore = (*DedupBreaker)(nil)

// NewDedupBreaker returns a breaker before store.
func NewDedupBreaker(store DedupStore) *DedupBreaker {
	return &DedupBreaker{store: store, since: time.Now()}
}

// Claim implements [DedupStore].
func (b *DedupBreaker) Claim(ctx context.Context, key DedupKey, owner string, lease time.Duration) (ClaimResult, error) {
	return through(ctx, b, func() (ClaimResult, error) { return b.store.Claim(ctx, key, owner, lease) })
}

// Renew implements [DedupStore].
func (b *DedupBreaker) Renew(ctx context.Context, key DedupKey, owner string, lease time.Duration) (bool, error) {
	return through(ctx, b, func() (bool, error) { return b.store.Renew(ctx, key, owner, lease) })
}

// Confirm implements [DedupStore].
func (b *DedupBreaker) Confirm(ctx context.Context, key DedupKey, owner string, window time.Duration) (bool, error) {
	return through(ctx, b, func() (bool, error) { return b.store.Confirm(ctx, key, owner, window) })
}

// Release implements [DedupStore].
func (b *DedupBreaker) Release(ctx context.Context, key DedupKey, owner string) error {
	_, err := through(ctx, b, func() (struct{}, error) { return struct{}{}, b.store.Release(ctx, key, owner) })
	return err
}

func through[A any](ctx context.Context, b *DedupBreaker, call func() (A, error)) (A, error) {
	if !b.allow() {
		var none A
		return none, ErrStoreAway
	}
	answer, err := call()
	switch {
	case err == nil:
		b.next.Store(0)
	case ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded): // else the caller went away
		b.next.Store(int64(time.Since(b.since) + breakerPause))
	}
	return answer, err
}

// allow lets one caller through when the pause is over, and begins the next pause.
func (b *DedupBreaker) allow() bool {
	next, now := b.next.Load(), time.Since(b.since)
	return next == 0 || int64(now) >= next && b.next.CompareAndSwap(next, int64(now+breakerPause))
}
