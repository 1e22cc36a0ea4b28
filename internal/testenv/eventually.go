package testenv

import (
	"testing"
	"time"
)

// pollInterval is the pause between two looks at a server: short beside what is waited for, long beside a query.
const pollInterval = 10 * time.Millisecond

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
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return err
		case <-tick.C:
		}
	}
}
