package testenv

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// sharedRedis starts the server of [Redis] and returns its URL.
var sharedRedis = sync.OnceValues(func() (string, error) {
	program, err := findServer("redis-server")
	if err != nil {
		return "", err
	}
	var target string
	err = withPort(func(port int) error {
		target = fmt.Sprintf("redis://127.0.0.1:%d/0", port)
		return startRedis(program, port, target)
	})
	return target, err
})

// Redis returns the URL of a private Redis that the tests of the binary share: use a key prefix of your own. It keeps
// nothing on disk.
func Redis(tb testing.TB) string {
	tb.Helper()
	target, err := sharedRedis()
	if err != nil {
		tb.Fatalf("start shared Redis: %v", err)
	}
	return target
}

func startRedis(program string, port int, target string) error {
	dir, err := newDir("redis")
	if err != nil {
		return err
	}
	server, err := startProcess(dir, syscall.SIGKILL, nil, program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port),
		"--dir", dir, "--save", "", "--appendonly", "no")
	if err != nil {
		return err
	}
	options, err := redis.ParseURL(target)
	if err != nil {
		return err
	}
	options.MaxRetries, options.DialerRetries = -1, 1 // ready tries again
	options.ReadTimeout = time.Second                 // a stranger may never answer
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	return server.ready(func() error { return answersAs(client, server.cmd.Process.Pid) })
}

// answersAs asks for the process id: the answer could come from a stranger who took the port.
func answersAs(client *redis.Client, pid int) error {
	if err := reachable(client.Options().Addr); err != nil {
		return err
	}
	info, err := client.Info(context.Background(), "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
		return fmt.Errorf("another Redis answers at %s", client.Options().Addr)
	}
	return nil
}

// reachable stands before the first use of the client, which logs every connection that is refused.
func reachable(address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
