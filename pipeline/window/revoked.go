package window

import (
	"context"
	"sync/atomic"
)

type revokedKey struct{}

// WithRevoked returns a copy of a message's context. From when revoked is true, another process is to have the message,
// unless its handling has begun: nack it.
func WithRevoked(ctx context.Context, revoked *atomic.Bool) context.Context {
	return context.WithValue(ctx, revokedKey{}, revoked)
}

// RevokedOf returns what was given to [WithRevoked], by the message's context; without it, what is never true.
func RevokedOf(ctx context.Context) *atomic.Bool {
	if revoked, ok := ctx.Value(revokedKey{}).(*atomic.Bool); ok {
		return revoked
	}
	return &never
}

var never atomic.Bool
