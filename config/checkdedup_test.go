package config

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDeduplicationNeedsAStore also asks about a transport that the configuration does not take yet.
func TestDeduplicationNeedsAStore(t *testing.T) {
	setEnvironment(t)
	const problem = "performance.enable_dedup: needs redis.url with transport nats, which brings no store of its own (set url in [redis], or remove enable_dedup)"
	for name, test := range map[string]struct {
		file, transport string
		want            string
	}{
		"a stream has none":          {"dedup-own.good.toml", "nats", problem},
		"a stream beside a Redis":    {"dedup.good.toml", "nats", ""},
		"Postgres has one":           {"dedup-own.good.toml", "postgres", ""},
		"a process has one":          {"dedup-own.good.toml", "in_memory", ""},
		"where nothing deduplicates": {"idle.good.toml", "nats", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Load(filepath.Join("testdata", test.file), Options{})
			require.NoError(t, err)
			cfg.Transport.Transport = test.transport
			d := &decoder{cfg: cfg, blamed: map[string]bool{}}
			d.checkDedup()
			if test.want == "" {
				require.Empty(t, d.problems.List)
				return
			}
			require.ErrorContains(t, &d.problems, test.want)
		})
	}
}
