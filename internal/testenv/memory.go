package testenv

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

const (
	memory     = "/dev/shm" // where Linux has a file system in memory
	memoryLeft = 1 << 30    // bytes; containers may have 64 MiB there
)

// memoryWorkspace is in memory where that has room, else on disk. The next process of tests removes it.
var memoryWorkspace = sync.OnceValues(func() (*workspace, error) {
	var is syscall.Statfs_t
	if err := syscall.Statfs(memory, &is); err == nil && is.Bavail*uint64(is.Bsize) > memoryLeft {
		if space, err := newWorkspace(memory); err == nil {
			return space, nil
		}
	}
	return newWorkspace(os.TempDir())
})

// MemoryDir returns a directory that ends with the test, for a server that waits for its disk after each small write: it is
// in memory, where the machine has that, and outlives the server, not the machine.
func MemoryDir(tb testing.TB) string {
	tb.Helper()
	space, err := memoryWorkspace()
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp(space.dir, "") //nolint:usetesting // TempDir is on disk
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove directory in memory: %v", err)
		}
	})
	return dir
}
