package faults

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// long chooses the durations of make faults.
var long = os.Getenv("OBSERVER_FAULTS") == "long"

var seed = func() uint64 {
	if given, err := strconv.ParseUint(os.Getenv("OBSERVER_FAULTS_SEED"), 10, 64); err == nil {
		return given
	}
	return uint64(time.Now().UnixNano())
}()

// newRandom returns a generator of its own for each stream of one scenario.
func newRandom(scenario string, stream uint64) *rand.Rand {
	mixed := stream
	for _, c := range scenario {
		mixed = mixed*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(seed, mixed))
}

// pick returns the duration of the short or the long form.
func pick[T any](short, whenLong T) T {
	if long {
		return whenLong
	}
	return short
}

// onlyLong leaves a test to make faults.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("make faults runs it")
	}
}

// contended says that tests run beside each other, which they do once those that do not are done.
var contended atomic.Bool

// scenario starts a test that may run beside others.
func scenario(t *testing.T) {
	t.Helper()
	t.Parallel()
	contended.Store(true)
}

// exact starts a test that holds the program to a time. In the long form it has the machine to itself; the short form is
// patient.
func exact(t *testing.T) {
	t.Helper()
	if !long {
		scenario(t)
	}
}

// soon is how quickly a standby must deliver, a process must end, and deliveries must go on: the long form holds the program
// to its promises, the short one allows for a busy machine.
var soon = pick(15*time.Second, 5*time.Second)

// within is how long anything may take before a test gives up on it: far more than it needs, on a busy machine.
const within = 30 * time.Second
