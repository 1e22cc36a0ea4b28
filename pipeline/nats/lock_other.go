//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package nats

import (
	"errors"
	"os"
)

// dirLock is held until it is released. One that a crash left must be removed by hand: this system has no lock that ends
// with its process.
type dirLock struct{ path string }

func lockDir(path string) (*dirLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, errors.New("another process uses it (end that one; after a crash, remove observer.lock in it)")
	}
	if err != nil {
		return nil, err
	}
	return &dirLock{path}, file.Close()
}

func (l *dirLock) release() error { return os.Remove(l.path) }
