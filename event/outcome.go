package event

import (
	"errors"
	"time"
)

// Outcomes of a delivery that are neither success (nil) nor failure.
var (
	// ErrParked says that the delivery is stored durably and comes back later.
	ErrParked = errors.New("parked")
	// ErrBusy says that another worker holds the lease of this delivery.
	ErrBusy = errors.New("held by another worker")
	// ErrDeadLettered says that the delivery is stored durably as a dead letter.
	ErrDeadLettered = errors.New("dead-lettered")
	// ErrDropped says that the delivery failed for good and, as its observer asks for, was only logged.
	ErrDropped = errors.New("dropped")
	// ErrDuplicate says that the delivery was done before, so that its action did not run again.
	ErrDuplicate = errors.New("done before")
)

// Settled reports whether a delivery with this outcome needs nothing more: it succeeded, or what is left of it is stored.
func Settled(err error) bool {
	return err == nil || errors.Is(err, ErrParked) || errors.Is(err, ErrDeadLettered) || errors.Is(err, ErrDropped) || errors.Is(err, ErrDuplicate)
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err as one that no retry can mend. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err or what it wraps was marked with [Permanent].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

type retryAfterError struct {
	err error
	d   time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryAfter marks err as transient and asks for at least d before the next attempt.
func RetryAfter(err error, d time.Duration) error { return &retryAfterError{err, d} }

// RetryDelay returns the least delay that err asks for, 0 when it asks for none.
func RetryDelay(err error) time.Duration {
	if r, ok := errors.AsType[*retryAfterError](err); ok {
		return r.d
	}
	return 0
}

type deferredError struct {
	err error
	d   time.Duration
}

func (e *deferredError) Error() string { return e.err.Error() }
func (e *deferredError) Unwrap() error { return e.err }

// Defer says that the attempt did not take place, and that there is no sense in one before d has passed: the endpoint is
// known to be down, or takes no more for now. The delivery keeps its place and uses no attempt up.
func Defer(err error, d time.Duration) error { return &deferredError{err, d} }

// Deferred returns the delay that [Defer] was given, and whether err is such an error.
func Deferred(err error) (d time.Duration, ok bool) {
	if e, ok := errors.AsType[*deferredError](err); ok {
		return e.d, true
	}
	return 0, false
}

type classError struct {
	err   error
	class string
}

func (e *classError) Error() string { return e.err.Error() }
func (e *classError) Unwrap() error { return e.err }

// WithClass names the kind of failure, such as "timeout", "refused" or "http_503", for metrics and dead letters. It
// holds no row data.
func WithClass(err error, class string) error {
	if err == nil {
		return nil
	}
	return &classError{err, class}
}

// Class returns the name given by [WithClass], "error" when there is none.
func Class(err error) string {
	if c, ok := errors.AsType[*classError](err); ok {
		return c.class
	}
	return "error"
}
