//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package nats

import (
	"errors"
	"os"
	"syscall"
)

// dirLock is held until it is released or the process ends, however that ends.
type dirLock struct{ file *os.File }

func lockDir(path string) (*dirLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's directory
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another process uses it (end that one, or give each its own directory; several workers need a server of their own: embedded = false)")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &dirLock{file}, nil
}

func (l *dirLock) release() error { return l.file.Close() }
