package testenv_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// childVariable makes the test binary a child that starts servers and then stops for its parent to kill it.
const childVariable = "TESTENV_CHILD"

func dieWithServers() {
	cluster, err := testenv.NewCluster()
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	fmt.Fprintln(os.Stdout, cluster.DataDir())
	select {}
}

func TestServersEndWithAKilledTest(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0])
	parent := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(parent), 0o755)) // the server's user passes through
	require.NoError(t, os.Chmod(parent, 0o777))
	child.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+parent)
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	dataDir := strings.TrimSpace(line)
	pidFile := filepath.Join(dataDir, "postmaster.pid")
	require.FileExists(t, pidFile, "the child said: %s", line)

	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	// The server removes the file as the last thing it does. Its pid would stay where nobody reaps orphans.
	testenv.Eventually(t, 20*time.Second, func() error {
		if _, err := os.Stat(pidFile); err == nil {
			return errors.New("postgres still runs")
		}
		return nil
	})
}
