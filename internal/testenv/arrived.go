package testenv

import (
	"errors"
	"syscall"
	"testing"
)

// Arrived waits until something can be read from a connection, or it has ended, and reads nothing.
func Arrived(tb testing.TB, c syscall.Conn) {
	tb.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		tb.Fatalf("look at connection: %v", err)
	}
	_ = raw.Read(func(fd uintptr) bool { // fails when this end was closed
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return !errors.Is(err, syscall.EAGAIN)
	})
}
