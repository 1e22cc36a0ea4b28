package pipeline

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestADryRunAsksTheRedisThatDeduplicates(t *testing.T) {
	t.Parallel()
	const on = "[performance]\nenable_dedup = true\n"
	for name, tc := range map[string]struct {
		text, failure string
		asked         bool
	}{
		"one that answers":        {on + "[redis]\nurl = \"" + testenv.Redis(t) + "\"\n", "", true},
		"one that is away":        {on + "[redis]\nurl = \"redis://127.0.0.1:1/0\"\n", "refused", true},
		"the transport's own":     {on, "", false},
		"without deduplication":   {"[redis]\nurl = \"redis://127.0.0.1:1/0\"\n", "", false},
		"a table with no address": {on + "[redis]\ndedup_window_secs = 60\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checks := map[string]Check{}
			for _, c := range DryRun(t.Context(), plan(t, tc.text), slog.New(slog.DiscardHandler)) {
				checks[c.Name] = c
			}
			check, asked := checks[redisCheck]
			require.Equal(t, tc.asked, asked)
			if tc.failure != "" {
				require.ErrorContains(t, check.Err, tc.failure)
				return
			}
			require.NoError(t, check.Err)
		})
	}
}
