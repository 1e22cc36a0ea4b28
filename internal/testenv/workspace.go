package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

const workspacePrefix = "observer-testenv-"

// workspace is the directory that holds everything the servers of this process write. A lock on a file in it tells other
// test processes that it is in use: the kernel releases the lock when this process ends, however it ends.
type workspace struct {
	dir  string
	lock *os.File
}

// opened is the workspace of this process, if any server was asked for.
var opened atomic.Pointer[workspace]

// openWorkspace creates the workspace of this process, once.
var openWorkspace = sync.OnceValues(func() (*workspace, error) {
	space, err := newWorkspace(os.TempDir())
	if err == nil {
		opened.Store(space)
	}
	return space, err
})

// newWorkspace creates a workspace in parent, and removes those that processes left behind there which have ended.
func newWorkspace(parent string) (*workspace, error) {
	removeStale(parent)
	dir, err := os.MkdirTemp(parent, workspacePrefix)
	if err != nil {
		return nil, fmt.Errorf("create directory for test servers: %w", err)
	}
	// The servers run as another user when the tests run as root: they must be able to pass through.
	if err = os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open directory for test servers: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("lock directory for test servers: %w", err)
	}
	return &workspace{dir: dir, lock: lock}, nil
}

// lockDir gives the lock file its name after it is locked, so that no other process sees it unlocked.
func lockDir(dir string) (*os.File, error) {
	file, err := os.Create(filepath.Join(dir, "lock.new"))
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err = os.Rename(file.Name(), filepath.Join(dir, "lock")); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// removeStale removes the workspaces whose process has ended. What it cannot remove belongs to another user, and stays.
func removeStale(parent string) {
	locks, _ := filepath.Glob(filepath.Join(parent, workspacePrefix+"*", "lock")) // the pattern is constant and valid
	for _, name := range locks {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(name))
		}
		_ = file.Close()
	}
}

// newDir creates a directory for one server, which may write to it.
func newDir(name string) (string, error) {
	space, err := openWorkspace()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(space.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("create directory for %s: %w", name, err)
	}
	owner, err := serverUser()
	if err != nil || owner == nil {
		return dir, err
	}
	if err = os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return "", fmt.Errorf("hand directory to %s: %w", name, err)
	}
	return dir, nil
}

// writeFile writes a configuration file that the server may read.
func writeFile(name, text string) error {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return err
	}
	owner, err := serverUser()
	if err != nil || owner == nil {
		return err
	}
	return os.Chown(name, int(owner.Uid), int(owner.Gid))
}

func (w *workspace) remove() error {
	return errors.Join(os.RemoveAll(w.dir), w.lock.Close())
}
