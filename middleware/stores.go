package middleware

import (
	"context"
	"time"

	"github.com/fraiseql/observer/event"
)

// RetryQueue keeps deliveries that wait for their next attempt. The transport's own queue feeds them back when due.
type RetryQueue interface {
	// Park stores d until notBefore and is durable when it returns nil. There is one entry a delivery: parking it again
	// replaces attempts, lane and due time, and leaves it its place in the lane. Of the entries that share observer, action
	// and a lane that is not "", only the first is ever fed back. An error that is marked event.Permanent says that the queue can never hold d.
	Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error
}

// DeadLetters keeps deliveries that failed for good.
type DeadLetters interface {
	// Put stores d with all its attempts and is durable when it returns nil. A delivery that is there already is
	// updated, never doubled. A delivery with an empty Observer stands for the whole event (it could not be read, or it
	// killed the process each time); the last attempt says why.
	Put(ctx context.Context, d *event.Delivery) error
}

// ResultStore remembers what succeeded lately.
type ResultStore interface {
	// Has reports whether key was put and its time is not over.
	Has(ctx context.Context, key string) (bool, error)
	// Put remembers key for ttl from now.
	Put(ctx context.Context, key string, ttl time.Duration) error
}

// DedupStore remembers which deliveries run and which are done. Each method is one atomic step, safe from many processes at
// once, and harmless when it is repeated with the same owner. What has expired is as if it had never been. An error says
// that the step may or may not have been taken.
type DedupStore interface {
	// Claim asks for the right to run a delivery. The answer is Claimed when nobody holds it and this generation or a later
	// one is not done; owner holds it then for the time of the lease. An earlier generation that is done does not stand
	// in the way of a replay; one that is held does.
	Claim(ctx context.Context, key DedupKey, owner string, lease time.Duration) (ClaimResult, error)
	// Renew makes owner's lease last for the given time from now. What the store has lost is taken again. It returns false, and
	// changes nothing, when another holds the delivery or it is done.
	Renew(ctx context.Context, key DedupKey, owner string, lease time.Duration) (held bool, err error)
	// Confirm records for the length of window that the delivery is done, whoever holds it: that it was done is a fact. A later
	// generation's record stays. It returns false when another has held the delivery since, which means that it may have
	// run twice.
	Confirm(ctx context.Context, key DedupKey, owner string, window time.Duration) (held bool, err error)
	// Release ends owner's lease, if owner still holds it, so that the next Claim need not wait until it expires.
	Release(ctx context.Context, key DedupKey, owner string) error
}

// DedupKey names a delivery. There is one record for all its generations.
type DedupKey struct {
	Event, Observer, Action string
	Generation              int
}

// String returns the key without its generation, as it stands in Redis.
func (k DedupKey) String() string { return "event:" + k.Event + ":" + k.Observer + ":" + k.Action }

// ClaimResult is the answer of DedupStore.Claim.
type ClaimResult int

// The three answers.
const (
	Claimed   ClaimResult = iota // the caller holds the lease
	ClaimBusy                    // another holds it: come back later
	ClaimDone                    // nothing is left to do
)
