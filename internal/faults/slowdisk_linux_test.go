package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestARunningObserverSlowsNoCommitsOnASlowDisk looks at the commits of an application beside three observers, where each takes the disk
// 4 ms: hardly any waits to notify while another one does. Where they queue, a tenth of what capture alone allows is left; the row
// "slow disk" of the bench has the exact figures.
func TestARunningObserverSlowsNoCommitsOnASlowDisk(t *testing.T) {
	scenario(t)
	w := &world{url: testenv.SlowPostgresCluster(t, 4*time.Millisecond, "max_wal_size = 4GB").URL(), dir: t.TempDir()}
	runTool(t, "pgbench", "--initialize", "--quiet", "--scale=1", w.url)
	var configs []string
	for i := range 3 {
		file := filepath.Join(w.dir, fmt.Sprintf("observer%d.toml", i))
		text := fmt.Sprintf("[transport.postgres]\nurl = %q\nlistener_name = \"slow_%d\"\n[admin]\nlisten = \"\"\n[[observers]]\nentity = \"*\"\ncondition = \"data.aid < 0\"\n"+
			"[[observers.actions]]\ntype = \"log\"\nmessage_template = \"none\"\n", w.url, i)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		configs = append(configs, file)
	}
	for _, arguments := range [][]string{{"migrate"}, {"capture", "add", "pgbench_accounts"}, {"capture", "add", "pgbench_history"}} {
		_, stderr, code := call(t, configs[0], arguments...)
		require.Zero(t, code, stderr)
	}
	alone := commits(t, w.url)
	var running []*observer
	for _, file := range configs {
		o := startObserver(t, file)
		o.leads(t)
		running = append(running, o)
	}
	queue := watchQueue(t, w.url)
	beside := commits(t, w.url)
	samples, waiting := queue()
	for _, o := range running {
		code, _ := o.terminate(t)
		require.Zero(t, code)
	}
	t.Logf("%.0f commits a second with capture, %.0f beside three observers; %.2f of them wait to notify, on average of %d looks", alone, beside, waiting, samples)
	require.Greater(t, samples, 10)
	require.Less(t, waiting, 2.0)
}

// watchQueue looks again and again how many commits wait to notify, until stop is called.
func watchQueue(t *testing.T, url string) (stop func() (samples int, average float64)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var samples, sum int
	go func() {
		for ctx.Err() == nil {
			var n int
			// The lock that a commit which notifies holds: on database 0.
			if err := conn.QueryRow(t.Context(), `select count(*) from pg_locks where locktype = 'object' and classid = 'pg_database'::regclass and objid = 0 and not granted`).Scan(&n); err != nil {
				done <- err
				return
			}
			samples, sum = samples+1, sum+n
			wait(ctx, 5*time.Millisecond)
		}
		done <- conn.Close(t.Context())
	}()
	return func() (int, float64) {
		cancel()
		require.NoError(t, <-done)
		return samples, float64(sum) / float64(samples)
	}
}

var pgbenchRate = regexp.MustCompile(`tps = ([0-9.]+)`)

// commits returns how many transactions a second 16 clients of pgbench commit.
func commits(t *testing.T, url string) float64 {
	t.Helper()
	out := runTool(t, "pgbench", "-N", "-n", "-c", "16", "-j", "2", "-T", strconv.Itoa(pick(2, 10)), url)
	found := pgbenchRate.FindStringSubmatch(out)
	require.NotNil(t, found, out)
	rate, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return rate
}
