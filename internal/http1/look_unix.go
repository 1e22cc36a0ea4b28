//go:build unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// canLook says whether connections can be looked at on this system.
const canLook = true

// looker looks at a connection without reading from it.
type looker struct {
	raw  syscall.RawConn              // nil: this connection cannot be looked at
	peek func(fd uintptr) (done bool) // kept, since it would be made anew for each look
	seen sight
}

func newLooker(c net.Conn) *looker {
	l := &looker{}
	if socket, ok := c.(syscall.Conn); ok {
		l.raw, _ = socket.SyscallConn() // fails on a closed connection, which is not used again either
	}
	l.peek = func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			l.seen = quiet
		case err == nil && n > 0:
			l.seen = spoken
		}
		return true
	}
	return l
}

func (l *looker) look() sight {
	if l.raw == nil {
		return unseen
	}
	l.seen = ended
	_ = l.raw.Read(l.peek) // fails on a connection that has ended
	return l.seen
}
