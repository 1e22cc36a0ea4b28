package natsconn

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// OpenInProcess connects to a server in this process, without a port.
func OpenInProcess(ctx context.Context, server nats.InProcessConnProvider) (*Conn, error) {
	l := newLink()
	conn, err := nats.Connect("", append(l.options(), nats.InProcessServer(server))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	select {
	case <-l.tried:
	case <-ctx.Done():
	}
	l.opened()
	return &Conn{conn, l}, nil
}
