//go:build !unix

package http1

import "net"

// silent cannot be told here: a connection that was idle for a while is not used again.
func silent(net.Conn) bool { return false }
