package handlers

import (
	"context"
	"net"
)

// WatchConnections hands every connection of h that has no TLS to each, once it stands. Call it before the first request.
func (h *HTTP) WatchConnections(each func(net.Conn)) {
	dial := h.plain.Dial
	h.plain.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			each(conn)
		}
		return conn, err
	}
}
