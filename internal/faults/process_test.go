package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// observer is the program under test as a child process.
type observer struct {
	cmd   *exec.Cmd
	log   string
	done  chan struct{} // closed when it has ended
	ended time.Time     // valid then
}

var started atomic.Int64

// startObserver runs the program with a configuration file, and more in its environment, until the test ends, at the latest.
func startObserver(t *testing.T, config string, environment ...string) *observer {
	t.Helper()
	return startBinary(t, os.Args[0], config, environment...)
}

// startBinary is startObserver for another build of the tests.
func startBinary(t *testing.T, binary, config string, environment ...string) *observer {
	t.Helper()
	name := filepath.Join(filepath.Dir(config), fmt.Sprintf("observer-%d.log", started.Add(1)))
	output, err := os.Create(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, output.Close()) }() // the child has its own descriptor
	o := &observer{log: name, done: make(chan struct{}), cmd: exec.Command(binary, "run", "--config", config)}
	o.cmd.Env = append(append(os.Environ(), childEnv+"=1"), environment...)
	alive, err := o.cmd.StdinPipe() // closes with this process, which ends the child
	require.NoError(t, err)
	o.cmd.Stdout, o.cmd.Stderr = output, output
	require.NoError(t, o.cmd.Start())
	go func() {
		_ = o.cmd.Wait() // ended by a signal in most tests
		_ = alive.Close()
		o.ended = time.Now()
		close(o.done)
	}()
	t.Cleanup(func() {
		o.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(name), o.tail(60))
		}
		require.NotContains(t, o.text(), "WARNING: DATA RACE")
	})
	return o
}

// command is one run of the program.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	return cmd
}

// call runs a command of the program to its end.
func call(t *testing.T, config string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := command(ctx, append(args, "--config", config)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	alive, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_ = cmd.Wait() // the exit code says it
	_ = alive.Close()
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

func (o *observer) running() bool {
	select {
	case <-o.done:
		return false
	default:
		return true
	}
}

func (o *observer) signal(s syscall.Signal) { _ = o.cmd.Process.Signal(s) } // one that has ended takes none

// kill ends the process at once and returns when it was.
func (o *observer) kill() time.Time {
	o.signal(syscall.SIGKILL)
	moment := time.Now()
	<-o.done
	return moment
}

// terminate asks the process to end and returns its exit code, and how long it took.
func (o *observer) terminate(t *testing.T) (code int, took time.Duration) {
	t.Helper()
	begun := time.Now()
	o.signal(syscall.SIGTERM)
	return o.exit(t), time.Since(begun)
}

// exit waits for the end and returns the exit code, -1 after a signal.
func (o *observer) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-o.done:
	case <-time.After(within):
		o.signal(syscall.SIGQUIT) // its goroutines show in the log
		<-o.done
		t.Fatalf("the process did not end within %s", within)
	}
	return o.cmd.ProcessState.ExitCode()
}

func (o *observer) text() string {
	text, _ := os.ReadFile(o.log) // before the first line there is none
	return string(text)
}

func (o *observer) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(o.text()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// awaits waits until the log has a line that fits.
func (o *observer) awaits(t *testing.T, pattern string) {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	testenv.Eventually(t, within, func() error {
		if !expression.MatchString(o.text()) {
			return fmt.Errorf("the log has no %q", pattern)
		}
		return nil
	})
}

// saysAfter reports that the log has no such text behind an offset.
func (o *observer) saysAfter(offset int, text string) error {
	if log := o.text(); !strings.Contains(log[min(offset, len(log)):], text) {
		return fmt.Errorf("the log does not say %q again", text)
	}
	return nil
}

func (o *observer) leads(t *testing.T) {
	t.Helper()
	o.awaits(t, `msg=leading listener=`)
}

var adminAddress = regexp.MustCompile(`msg="admin address is open" address=(\S+)`)

// readiness is the answer of /readyz.
type readiness struct {
	code    int
	Status  string
	Reasons []struct{ Check, Error, Fix string }
}

func (o *observer) ready(ctx context.Context) (readiness, error) {
	var r readiness
	address := adminAddress.FindStringSubmatch(o.text())
	if address == nil {
		return r, errors.New("the log names no admin address")
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address[1]+"/readyz", http.NoBody)
	if err != nil {
		return r, err
	}
	ask.Close = true
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return r, err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	r.code = answer.StatusCode
	return r, json.NewDecoder(answer.Body).Decode(&r)
}

// becomes waits for a status code of /readyz and returns the whole answer.
func (o *observer) becomes(t *testing.T, code int) readiness {
	t.Helper()
	var last readiness
	testenv.Eventually(t, within, func() error {
		var err error
		if last, err = o.ready(t.Context()); err == nil && last.code != code {
			err = fmt.Errorf("/readyz says %+v, not %d", last, code)
		}
		return err
	})
	return last
}
