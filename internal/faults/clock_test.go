package faults

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockEnv names the file that says how many seconds the wall clock of a process is wrong by.
const clockEnv = "OBSERVER_FAULTS_CLOCK"

// TestClockJumpsChangeNothing sets the wall clock of a leader and its standby forth and back while deliveries are parked, as an
// administrator or a virtual machine that wakes up does: leases, retries and timeouts go by time that passed, or by the clock
// of the server.
func TestClockJumpsChangeNothing(t *testing.T) {
	onlyLong(t) // it builds the standard library anew
	scenario(t)
	binary := buildWithClock(t)
	w := newWorld(t, "")
	clock := filepath.Join(w.dir, "clock")
	jump := func(by time.Duration) {
		require.NoError(t, os.WriteFile(clock, []byte(strconv.Itoa(int(by.Seconds()))), 0o600))
	}
	jump(0)
	start := func(instance string) *observer {
		return startBinary(t, binary, w.config(t, settings{instance: instance, retry: patient, onRetry: "hold"}), clockEnv+"="+clock)
	}
	leader := start("a")
	leader.leads(t)
	standby := start("b")
	startWriters(t, w.writers, t.Name())
	const day = 24 * time.Hour
	for _, by := range []time.Duration{time.Hour, -time.Hour, 400 * day, -400 * day, 0} {
		w.receiver.answer(http.StatusInternalServerError)
		wait(t.Context(), 2*time.Second)
		jump(by)
		wait(t.Context(), 2*time.Second)
		w.receiver.answer(http.StatusOK)
		w.delivers(t, time.Now(), "a")
	}
	v := w.finish(t, "wall clock jumps by an hour and by a year", leader, standby)
	require.Zero(t, v.duplicates)
	require.Contains(t, leader.text(), "time="+time.Now().Add(400*day).Format("2006-01"), "the clock was set")
	require.NotContains(t, standby.text(), "msg=leading")
}

// buildWithClock builds the tests with a standard library whose wall clock is wrong by what a file says. The monotonic clock
// stays.
func buildWithClock(t *testing.T) string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	now := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(now)
	require.NoError(t, err)
	const reading = "\tsec, nsec, mono := runtimeNow()\n"
	require.Equal(t, 1, strings.Count(string(source), reading), "of time.Now")

	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		now: write("time.go", strings.Replace(string(source), reading, reading+"\tsec += int64(wrong)\n", 1)),
		filepath.Join(filepath.Dir(now), "wrong.go"): write("wrong.go", `package time

import "syscall"

var wrong int

func init() {
	if name, ok := syscall.Getenv("`+clockEnv+`"); ok {
		go func() {
			for ; ; Sleep(20 * Millisecond) {
				if text, err := readFile(name); err == nil {
					if n, err := atoi(text); err == nil {
						wrong = n
					}
				}
			}
		}()
	}
}
`),
	}})
	require.NoError(t, err)
	binary := filepath.Join(dir, "faults.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", write("overlay.json", string(overlay)), "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}
