package cmd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
)

func TestThereIsARedisWhereItsURLIsSet(t *testing.T) {
	t.Setenv("FRAISEQL_REDIS_URL", "")
	for name, test := range map[string]struct {
		text, variable string
		want           bool
	}{
		"no table":               {"", "", false},
		"a table without url":    {"[redis]\npool_size = 5\n", "", false},
		"the url in the file":    {"[redis]\nurl = \"redis://localhost:6379\"\n", "", true},
		"the url from elsewhere": {"", "redis://localhost:6379", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FRAISEQL_REDIS_URL", test.variable)
			file := filepath.Join(t.TempDir(), "observer.toml")
			require.NoError(t, os.WriteFile(file, []byte("[transport]\ntransport = \"in_memory\"\n"+test.text), 0o600))
			cfg, err := config.Load(file, config.Options{})
			require.NoError(t, err)
			require.Equal(t, test.want, cfg.HasRedis())
			require.Equal(t, test.want, servers(cfg, true).Redis != nil, "for actions")
		})
	}
}
