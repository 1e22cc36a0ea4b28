package cmd

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/postgres"
)

func TestCheckpointsAreSetListedAndRemoved(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	none := observer(t, "", "checkpoint", "list", "--config", cfg)
	require.Zero(t, none.code)
	require.Empty(t, none.out)
	require.Contains(t, none.err, "first observer run")

	run(t, db, `select core.emit_event('Order', '{}') from generate_series(1, 3)`)
	backlog := func() int64 {
		var listed list[postgres.Checkpoint]
		require.NoError(t, json.Unmarshal([]byte(succeeds(t, "checkpoint", "list", "--config", cfg, "--format", "json")), &listed))
		require.Equal(t, 1, listed.Total)
		require.Equal(t, "observer", listed.Items[0].Name)
		return listed.Items[0].Backlog
	}
	for _, step := range []struct {
		to   string
		left int64
	}{
		{"now", 0},
		{"beginning", 3},
		{"2001-01-01T00:00:00+02:00", 3},
	} {
		r := observer(t, "", "checkpoint", "set", "observer", "--to", step.to, "--config", cfg)
		require.Zero(t, r.code, r.err)
		require.Contains(t, r.err, "checkpoint observer is set to "+step.to)
		require.Equal(t, step.left, backlog(), step.to)
	}
	refuses := func(says string, args ...string) {
		r := observer(t, "", append(append([]string{"checkpoint", "set"}, args...), "--config", cfg)...)
		require.Equal(t, exitRuntime, r.code)
		require.Contains(t, r.err, says)
	}
	refuses("2999-01-01T00:00:00Z is yet to come", "observer", "--to", "2999-01-01T00:00:00Z")
	refuses("did you mean observer?", "obsrver", "--to", "now")
	refuses("known: observer", "something_else", "--to", "now")
	require.Regexp(t, `^NAME      BACKLOG  PENDING  UPDATED               STATE
observer  3        0        \S+  ok
$`, succeeds(t, "checkpoint", "list", "--config", cfg))

	succeeds(t, "checkpoint", "remove", "observer", "--config", cfg)
	gone := observer(t, "", "checkpoint", "remove", "observer", "--config", cfg)
	require.Equal(t, exitRuntime, gone.code)
	require.Contains(t, gone.err, "remove checkpoint observer: not found; see: observer checkpoint list")
}

func TestACheckpointOfAnotherClusterNamesItsRepair(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	succeeds(t, "checkpoint", "set", "observer", "--to", "now", "--config", cfg)
	run(t, db, `update tb_observer_checkpoint set system_identifier = '1'`)
	require.Contains(t, succeeds(t, "checkpoint", "list", "--config", cfg), "of another database cluster: run observer checkpoint set observer --to now|beginning|TIMESTAMP")
	succeeds(t, "checkpoint", "set", "observer", "--to", "now", "--config", cfg)
	require.NotContains(t, succeeds(t, "checkpoint", "list", "--config", cfg), "another database cluster")
}
