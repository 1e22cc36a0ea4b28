package testenv

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the range that kernels hand out to outgoing connections (32768 up on Linux, 49152 up elsewhere),
// so that a stopped server finds its port free when it starts again.
const (
	firstPort  = 20000
	countPorts = 12000
	portTries  = 50
)

// freePort returns a port of 127.0.0.1 on which nothing listens right now. Another process may take it before the server
// does, so starting a server is tried again with another one.
func freePort() (int, error) {
	var config net.ListenConfig
	for range portTries {
		port := firstPort + rand.IntN(countPorts)
		listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, errors.New("find a free port: every one that was tried between 20000 and 32000 is taken")
}

// startTries is how often a server is started, each time on another port.
const startTries = 3

// withPort calls start with free ports until it succeeds.
func withPort(start func(port int) error) error {
	var failures []error
	for range startTries {
		port, err := freePort()
		if err != nil {
			return err
		}
		if err = start(port); err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}
