package testenv

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed testdata/slowdisk.c
var slowDiskSource []byte

// slowDisk builds the library that makes a disk slow, and returns its path.
var slowDisk = sync.OnceValues(func() (string, error) {
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("a slow disk is made with Linux's LD_PRELOAD: it is not to be had on %s", runtime.GOOS)
	}
	dir, err := newDir("slowdisk")
	if err != nil {
		return "", err
	}
	source, library := filepath.Join(dir, "slowdisk.c"), filepath.Join(dir, "slowdisk.so")
	if err = os.WriteFile(source, slowDiskSource, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", source, err)
	}
	compiler, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		return "", fmt.Errorf("find the C compiler: %w", err)
	}
	words := append(strings.Fields(string(compiler)), "-shared", "-fPIC", "-o", library, source, "-ldl")
	if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w:\n%s", library, err, output)
	}
	return library, os.Chmod(library, 0o755)
})

// NewSlowCluster is [NewCluster] on a disk where each fsync takes so much longer.
func NewSlowCluster(fsync time.Duration, settings ...string) (*Cluster, error) {
	library, err := slowDisk()
	if err != nil {
		return nil, err
	}
	return newCluster(func(c *Cluster) error {
		c.env = []string{"LD_PRELOAD=" + library, "SLOWDISK_MICROSECONDS=" + strconv.FormatInt(fsync.Microseconds(), 10)}
		return c.initialise(settings)
	})
}

// SlowPostgresCluster is [PostgresCluster] on a disk where each fsync takes so much longer.
func SlowPostgresCluster(tb testing.TB, fsync time.Duration, settings ...string) *Cluster {
	tb.Helper()
	cluster, err := NewSlowCluster(fsync, settings...)
	return untilEnd(tb, cluster, err)
}
