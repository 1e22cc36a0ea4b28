package testenv

import (
	"testing"
	"time"
)

// firstPoll is the pause before the second look at a server. Each is a quarter longer than the one before, up to lastPoll: short
// beside what was waited for so far, and long beside a query.
const (
	firstPoll = 10 * time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// Eventually calls check until it returns nil, and fails the test with its last error when that takes longer than within.
func Eventually(tb testing.TB, within time.Duration, check func() error) {
	tb.Helper()
	if err := poll(within, check); err != nil {
		tb.Fatalf("not within %s: %v", within, err)
	}
}

// poll calls check, at least once, until it returns nil, and returns its last error after the time is up.
func poll(within time.Duration, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for wait := firstPoll; ; wait = min(wait+wait/4, lastPoll) {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return err
		case <-time.After(wait):
		}
	}
}
