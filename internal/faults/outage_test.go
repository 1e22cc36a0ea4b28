package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestPostgresMayBeAway starts the process while the server is down, and stops the server again later.
func TestPostgresMayBeAway(t *testing.T) {
	scenario(t)
	cluster := testenv.PostgresCluster(t)
	w := newWorld(t, cluster.NewDatabase(t))
	cluster.Stop(t, "fast")
	o := startObserver(t, w.config(t, settings{}))
	state := o.becomes(t, 503)
	require.NotEmpty(t, state.Reasons)
	o.awaits(t, "waiting for postgres")
	away := pick(2*time.Second, 10*time.Second)
	wait(t.Context(), away)
	require.True(t, o.running())
	cluster.Start(t)
	o.becomes(t, 200) // from here on nothing that commits is missed
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	wait(t.Context(), pick(time.Second, 5*time.Second))

	cluster.Stop(t, "fast")
	state = o.becomes(t, 503)
	for _, reason := range state.Reasons {
		require.NotEmpty(t, reason.Check)
		require.NotEmpty(t, reason.Error)
		require.NotEmpty(t, reason.Fix)
	}
	wait(t.Context(), away)
	require.True(t, o.running())
	cluster.Start(t)
	w.delivers(t, time.Now(), "")
	o.becomes(t, 200)
	v := w.finish(t, "Postgres away at the start and later", o)
	require.Zero(t, v.duplicates, "the process kept its memory")
}
