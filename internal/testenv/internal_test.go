package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakePostgres makes a directory with programs that only know their version.
func fakePostgres(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700))
	}
	return dir
}

func TestPostgresIsTheFirstThatIsNewEnough(t *testing.T) {
	t.Parallel()
	empty, old, fits, newer := t.TempDir(), fakePostgres(t, "12.22"), fakePostgres(t, "13.0"), fakePostgres(t, "17.5 (Debian 17.5-1)")

	found, err := firstPostgres(slices.Values([]string{empty, old, fits, newer}))
	require.NoError(t, err)
	require.Equal(t, fits, found)

	found, err = firstPostgres(slices.Values([]string{newer, fits}))
	require.NoError(t, err)
	require.Equal(t, newer, found)
}

func TestAMissingServerSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	_, err := firstPostgres(slices.Values([]string{fakePostgres(t, "12.22")}))
	require.ErrorContains(t, err, "find Postgres 13 or newer")
	require.ErrorContains(t, err, "make test")

	_, err = findServer("no-such-server")
	require.ErrorContains(t, err, "find no-such-server")
	require.ErrorContains(t, err, "make test")
}

func TestAStartThatFailsIsTriedOnAnotherPort(t *testing.T) {
	t.Parallel()
	var ports []int
	err := withPort(func(port int) error {
		if ports = append(ports, port); len(ports) < 2 {
			return errors.New("taken")
		}
		return nil
	})
	require.NoError(t, err)
	require.Len(t, ports, 2)

	err = withPort(func(port int) error { return fmt.Errorf("port %d is taken", port) })
	require.ErrorContains(t, err, "is taken")
}

func TestAServerThatEndsIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	// Not through withPort: this port is taken on purpose.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	program, err := findServer("redis-server")
	require.NoError(t, err)

	err = startRedis(program, listener.Addr().(*net.TCPAddr).Port, "redis://"+listener.Addr().String())
	require.ErrorContains(t, err, "it ended")
	require.ErrorContains(t, err, "Address already in use")
}

func TestStaleWorkspacesAreRemovedAndThoseInUseStay(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	inUse, stale := filepath.Join(parent, workspacePrefix+"1"), filepath.Join(parent, workspacePrefix+"2")
	for _, dir := range []string{inUse, stale} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
	}
	lock, err := lockDir(inUse)
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	abandoned, err := lockDir(stale)
	require.NoError(t, err)
	require.NoError(t, abandoned.Close())

	removeStale(parent)
	require.DirExists(t, inUse)
	require.NoDirExists(t, stale)
}

func TestStoppingTwiceIsStoppingOnce(t *testing.T) {
	t.Parallel()
	p := startShell(t, "exec sleep 3600")
	require.False(t, p.ended())
	require.NoError(t, p.stop(syscall.SIGTERM))
	require.True(t, p.ended())
	require.NoError(t, p.stop(syscall.SIGTERM))
}

func TestAServerThatDoesNotStopIsKilledAndReported(t *testing.T) {
	t.Parallel()
	p := startShell(t, `trap "" TERM; echo deaf; exec sleep 3600`)
	require.NoError(t, p.ready(func() error {
		if text := tail(p.log); text != "deaf" {
			return fmt.Errorf("it said %q", text)
		}
		return nil
	}))
	require.ErrorContains(t, p.stopWithin(syscall.SIGTERM, 50*time.Millisecond), "killed")
	require.True(t, p.ended())
}

func startShell(t *testing.T, script string) *process {
	t.Helper()
	dir, err := newDir("shell")
	require.NoError(t, err)
	p, err := startProcess(dir, syscall.SIGKILL, nil, "/bin/sh", "-c", script)
	require.NoError(t, err)
	return p
}
