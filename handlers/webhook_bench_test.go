package handlers_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

// BenchmarkWebhook stands beside BenchmarkBareClient, since only their ratio says something on a shared machine.
func BenchmarkWebhook(b *testing.B) {
	h, err := handlers.NewHTTP(handlers.HTTPConfig{Concurrency: 64})
	require.NoError(b, err)
	defer h.Close()
	action, err := handlers.NewWebhook(&handlers.WebhookConfig{URL: secret.String(instantReceiver(b))}, handlers.Env{HTTP: h, Timeout: time.Minute})
	require.NoError(b, err)
	parallel(b, func(d *event.Delivery) error { return action.Run(context.Background(), d) })
}

func BenchmarkBareClient(b *testing.B) {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client, url := &http.Client{Transport: transport}, instantReceiver(b)
	parallel(b, func(d *event.Delivery) error {
		resp, err := client.Post(url, "application/json", bytes.NewReader(d.Event.JSON()))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return err
	})
}

const receiverVariable = "OBSERVER_TEST_RECEIVER"

// instantReceiver starts a receiver in a process of its own, so that the CPU that is measured is the sender's.
func instantReceiver(b *testing.B) string {
	b.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), receiverVariable+"=1")
	out, err := child.StdoutPipe()
	require.NoError(b, err)
	in, err := child.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, child.Start())
	b.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_ = child.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return "http://" + strings.TrimSpace(address)
}

// serve is the child's main.
func serve() {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	_, _ = io.WriteString(os.Stdout, server.Listener.Addr().String()+"\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func parallel(b *testing.B, send func(*event.Delivery) error) {
	b.Helper()
	d := delivery(`{"id": 1, "name": "Ada", "status": "shipped", "total": 10.50, "note": "left at the door, behind the green box"}`)
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := send(d); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpu is the time that this process used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
