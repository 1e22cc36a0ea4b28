package redis_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/redis"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		settings []string
		says     []string
	}{
		"all is well":                 {[]string{"appendonly yes"}, nil},
		"nothing is kept on disk":     {nil, []string{"appendonly is no"}},
		"the disk is told at leisure": {[]string{"appendonly yes", "appendfsync no"}, []string{"appendfsync is no"}},
		"what is full is deleted":     {[]string{"appendonly yes", "maxmemory-policy allkeys-lru"}, []string{"maxmemory-policy is allkeys-lru"}},
		"CONFIG is forbidden": {
			[]string{"appendonly no", "maxmemory-policy volatile-ttl", "user default on nopass ~* &* +@all -config"},
			[]string{"appendonly is no", "maxmemory-policy is volatile-ttl", "does not let its settings be read"},
		},
		"CONFIG is renamed": {[]string{"appendonly yes", `rename-command CONFIG ""`}, []string{"does not let its settings be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := redis.Warnings(t.Context(), open(t, testenv.NewRedis(t, tc.settings...).URL()))
			require.Len(t, got, len(tc.says), strings.Join(got, "\n"))
			for i, text := range tc.says {
				require.Contains(t, got[i], text)
			}
		})
	}
}
