// Package lease holds what every lease has in common: how long it lasts, and whether its owner may still trust it. Nobody
// compares the clocks of two machines: an owner counts from when it sent its last renewal, others from when they saw it.
package lease

import (
	"sync/atomic"
	"time"
)

// A lease outlives an owner that cannot renew it by TTL; such an owner stops starting actions a second earlier.
const (
	TTL     = 4 * time.Second
	Trusted = 3 * time.Second
	Renew   = time.Second
	Retry   = 250 * time.Millisecond // after a failed renewal
)

// Trust is how long the owner of a lease may rely on it. It may be used from many goroutines.
type Trust struct {
	base    time.Time    // monotonic origin of renewed
	renewed atomic.Int64 // when the last renewal that succeeded was sent
	wall    atomic.Int64 // the same by the wall clock, which goes on while the machine sleeps
	ended   atomic.Bool
}

// NewTrust returns a Trust for a lease that is not held.
func NewTrust() *Trust {
	t := &Trust{base: time.Now()}
	t.Forfeit()
	return t
}

// Renewed notes a renewal that succeeded, by the time at which it was sent.
func (t *Trust) Renewed(sent time.Time) {
	t.wall.Store(sent.UnixNano())
	t.renewed.Store(int64(sent.Sub(t.base)))
}

// Forfeit makes Held false until the next renewal.
func (t *Trust) Forfeit() { t.renewed.Store(int64(time.Since(t.base) - Trusted)) }

// End makes Held false for good: another owns the lease.
func (t *Trust) End() { t.ended.Store(true) }

// Ended reports whether another owns the lease.
func (t *Trust) Ended() bool { return t.ended.Load() }

// Held reports whether the owner may start actions: it renewed within [Trusted]. It is cheap.
func (t *Trust) Held() bool {
	now := time.Now()
	return !t.ended.Load() && now.Sub(t.base)-time.Duration(t.renewed.Load()) < Trusted && now.UnixNano()-t.wall.Load() < int64(Trusted)
}
