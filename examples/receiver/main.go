// Command receiver prints the webhooks that arrive, for trying observer out:
//
//	go run ./examples/receiver [address]
package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		slog.Error("receiver ended", slog.Any("error", err))
		os.Exit(1)
	}
}

func run(args []string) error {
	address := "localhost:9000"
	if len(args) > 0 {
		address = args[0]
	}
	listener, err := net.Listen("tcp", address) //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(show), ReadHeaderTimeout: 5 * time.Second}
	return server.Serve(listener)
}

func show(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Printf("%s %s %s\n", r.Method, r.URL, body)
}
