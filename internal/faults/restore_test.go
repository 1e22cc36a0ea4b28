package faults

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestADumpRestoredElsewhereNeedsACommand moves the database to another cluster, where transaction ids mean nothing.
func TestADumpRestoredElsewhereNeedsACommand(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	config := w.config(t, settings{})
	o := startObserver(t, config)
	o.leads(t)
	w.commits(t, 20)
	w.settle(t)
	code, _ := o.terminate(t)
	require.Zero(t, code)
	w.commits(t, 20) // in the log, not delivered

	cluster := testenv.PostgresCluster(t)
	w.url = moveDatabase(t, w, cluster)
	w.writers.url = w.url
	config = w.config(t, settings{})
	o = startObserver(t, config)
	require.Equal(t, 1, o.exit(t), "it must not start to read")
	require.Contains(t, o.text(), "observer checkpoint set observer --to")
	require.Contains(t, o.text(), "another database cluster")

	out, stderr, code := call(t, config, "checkpoint", "list")
	require.Zero(t, code, stderr)
	require.Contains(t, out, "observer")
	_, stderr, code = call(t, config, "checkpoint", "set", "observer", "--to", "now")
	require.Zero(t, code, stderr)

	w.begin() // what the dump brought is not to be delivered
	o = startObserver(t, config)
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	wait(t.Context(), pick(2*time.Second, 10*time.Second))
	w.writers.stop()
	v := w.finish(t, "pg_dump restored into a new cluster", o)
	require.Zero(t, v.duplicates)
	require.Len(t, w.arrived(), v.events, "only what is new was delivered")
}

// moveDatabase dumps the world's database and restores it into a new one of a cluster.
func moveDatabase(t *testing.T, w *world, cluster *testenv.Cluster) string {
	t.Helper()
	file := filepath.Join(w.dir, "dump.sql")
	target := cluster.NewDatabase(t)
	runTool(t, "pg_dump", "--file="+file, "--dbname="+w.url)
	runTool(t, "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output="+os.DevNull, "--file="+file, "--dbname="+target)
	return target
}

func runTool(t *testing.T, name string, args ...string) (output string) {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), testenv.Tool(t, name), args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, text)
	return string(text)
}

func TestAWrongPasswordEndsTheProcessAtOnce(t *testing.T) {
	scenario(t)
	cluster := testenv.PostgresCluster(t)
	good := cluster.RequirePassword(t, "worker", "right")
	bad, err := url.Parse(good)
	require.NoError(t, err)
	bad.User = url.UserPassword("worker", "wr0ng-s3cret")
	w := &world{dir: t.TempDir(), receiver: newReceiver(t)}
	begun := time.Now()
	o := startObserver(t, w.config(t, settings{url: bad.String()}))
	require.Equal(t, 1, o.exit(t))
	require.Less(t, time.Since(begun), soon)
	require.Contains(t, o.text(), "wrong user or password")
	require.NotContains(t, o.text(), "wr0ng-s3cret", "a secret in the log")
}
