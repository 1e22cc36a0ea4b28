package pipeline

import (
	"bytes"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/postgres"
)

func TestMain(m *testing.M) {
	testenv.Concurrent(8)
	os.Exit(testenv.Main(m))
}

func TestARunWarnsAboutEntitiesThatNoTableIsCapturedAs(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), testenv.Postgres(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)))
	for name, test := range map[string]struct {
		observer config.Observer
		says     string
	}{
		"one that is missing": {config.Observer{Entity: "Order"}, `reason="no table is captured as Order: run: observer capture add TABLE --entity Order"`},
		"every entity":        {config.Observer{Entity: "*"}, ""},
		"custom events":       {config.Observer{Entity: "Order", EventType: "CUSTOM"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := &Pipeline{plan: &Plan{observers: []observer{{Observer: test.observer}}}, log: slog.New(slog.NewTextHandler(&log, nil))}
			p.warnUncaptured(t.Context(), pool)
			if test.says == "" {
				require.Empty(t, log.String())
				return
			}
			require.Contains(t, log.String(), "level=WARN")
			require.Contains(t, log.String(), test.says)
		})
	}
}
