package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// RedisServer is a private Redis of one test or program, which may stop it.
type RedisServer struct {
	program, dir string
	args         []string
	settings     []string
	port         int

	mu     sync.Mutex // guards what follows
	server *process
}

// NewRedis starts a Redis with these lines of redis.conf, such as "cluster-enabled yes". It speaks TLS alone where one begins
// with tls-. It ends with the test.
func NewRedis(tb testing.TB, settings ...string) *RedisServer {
	tb.Helper()
	return newRedis(tb, settings)
}

// NewSentinel starts a Sentinel with these lines of sentinel.conf. It ends with the test.
func NewSentinel(tb testing.TB, settings ...string) *RedisServer {
	tb.Helper()
	return newRedis(tb, settings, "--sentinel")
}

func newRedis(tb testing.TB, settings []string, args ...string) *RedisServer {
	tb.Helper()
	r, err := launchRedis(settings, args)
	if err != nil {
		tb.Fatalf("start private Redis: %v", err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Errorf("close private Redis: %v", err)
		}
	})
	return r
}

// NewRedisServer is [NewRedis] for a program that is no test. The caller closes it.
func NewRedisServer(settings ...string) (*RedisServer, error) { return launchRedis(settings, nil) }

func launchRedis(settings, args []string) (*RedisServer, error) {
	r := &RedisServer{args: args, settings: settings}
	var err error
	if r.program, err = findServer("redis-server"); err != nil {
		return nil, err
	}
	if r.dir, err = newDir("redis"); err != nil {
		return nil, err
	}
	err = withPort(func(port int) error {
		r.port = port
		return r.configure()
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	return r, nil
}

// Close stops the server and removes its data.
func (r *RedisServer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.server.stop(syscall.SIGKILL), os.RemoveAll(r.dir))
}

// Address returns host:port.
func (r *RedisServer) Address() string { return "127.0.0.1:" + r.Port() }

// Port returns the port.
func (r *RedisServer) Port() string { return strconv.Itoa(r.port) }

// URL returns the URL of its database 0, without TLS.
func (r *RedisServer) URL() string { return "redis://" + r.Address() + "/0" }

// Stop kills the server and waits for its end. What it held is gone.
func (r *RedisServer) Stop(tb testing.TB) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.server.stop(syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
}

// Start starts the stopped server again, on its port, and waits until it answers.
func (r *RedisServer) Start(tb testing.TB) {
	tb.Helper()
	if err := r.start(); err != nil {
		tb.Fatal(err)
	}
}

// configure writes redis.conf, which Sentinels and Clusters need to be a file, and starts the server.
func (r *RedisServer) configure() error {
	lines := []string{"bind 127.0.0.1", "dir " + r.dir, "port " + r.Port()}
	if slices.ContainsFunc(r.settings, func(s string) bool { return strings.HasPrefix(s, "tls-") }) {
		lines = append(lines[:2], "port 0", "tls-port "+r.Port())
	}
	if !slices.Contains(r.args, "--sentinel") {
		lines = append(lines, `save ""`, "appendonly no")
	}
	text := strings.Join(append(lines, r.settings...), "\n") + "\n"
	if err := writeFile(filepath.Join(r.dir, "redis.conf"), text); err != nil {
		return fmt.Errorf("write redis.conf: %w", err)
	}
	return r.start()
}

func (r *RedisServer) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := filepath.Join(r.dir, "server.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	server, err := startProcess(r.dir, syscall.SIGKILL, nil, r.program, append([]string{filepath.Join(r.dir, "redis.conf")}, r.args...)...)
	if err != nil {
		return err
	}
	if err := server.ready(func() error { return saysReady(log) }); err != nil {
		return err
	}
	r.server = server
	return nil
}

// saysReady reads the log: a connection could need a password, or reach a stranger who took the port.
func saysReady(log string) error {
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "Ready to accept connections") && !strings.Contains(string(text), "Sentinel ID is") {
		return errors.New("it does not accept connections yet")
	}
	return nil
}

// Signal sends a signal to the server, such as SIGSTOP.
func (r *RedisServer) Signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.server.cmd.Process.Signal(s); err != nil {
		tb.Fatal(err)
	}
}
