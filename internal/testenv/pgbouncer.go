package testenv

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// PgBouncer starts a transaction-pooling proxy before the database that target names, and returns target's URL through
// it. It ends with the test.
func PgBouncer(tb testing.TB, target string) string {
	tb.Helper()
	server, proxied, err := startPgBouncer(target)
	if err != nil {
		tb.Fatalf("start PgBouncer: %v", err)
	}
	tb.Cleanup(func() {
		if err := server.stop(server.quit); err != nil {
			tb.Errorf("stop PgBouncer: %v", err)
		}
	})
	return proxied
}

func startPgBouncer(target string) (*process, string, error) {
	program, err := findServer("pgbouncer")
	if err != nil {
		return nil, "", err
	}
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, "", fmt.Errorf("read URL of database: %w", err)
	}
	dir, err := newDir("pgbouncer")
	if err != nil {
		return nil, "", err
	}
	var server *process
	proxied := *parsed
	err = withPort(func(port int) error {
		proxied.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if server, err = runPgBouncer(program, dir, port, parsed); err != nil {
			return err
		}
		return server.ready(func() error { return execute(proxied.String(), "select 1") })
	})
	return server, proxied.String(), err
}

func runPgBouncer(program, dir string, port int, target *url.URL) (*process, error) {
	password, _ := target.User.Password()
	users := fmt.Sprintf("%q %q\n", target.User.Username(), password)
	if err := writeFile(filepath.Join(dir, "users.txt"), users); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := writeFile(file, pgBouncerConfig(port, target)); err != nil {
		return nil, err
	}
	return startProcess(dir, syscall.SIGKILL, nil, program, file)
}

// pgBouncerConfig has no socket besides the port, so that the server ends when another one has the port.
func pgBouncerConfig(port int, target *url.URL) string {
	return strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%s", target.Hostname(), target.Port()),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", port),
		"unix_socket_dir =",
		"auth_type = trust",
		"auth_file = users.txt",
		"pool_mode = transaction",
		"default_pool_size = 20",
		"max_client_conn = 200",
		"ignore_startup_parameters = extra_float_digits",
		"",
	}, "\n")
}
