package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLoad looks for documents that make the loader panic, put a problem outside of the file, or lose a value.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("a = [[[1], [2]], {b = [{}]}]\n[[observers]]\n[observers.retry.x.y]\n"))
	f.Add([]byte("\xef\xbb\xbf[transport]\n'' = 1\n\"\\u0000\" = nan\n"))
	f.Add([]byte("observers.actions = 1\nperformance = 2\nchannel_capacity = 3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := load("f.toml", data, Options{Needs: NeedsNothing})
		lines := bytes.Count(data, []byte("\n")) + 1
		if err != nil {
			var problems *Problems
			require.ErrorAs(t, err, &problems)
			require.NotEmpty(t, problems.List)
			for _, p := range problems.List {
				require.True(t, p.Env != "" || p.Line >= 1 && p.Line <= lines && p.Col >= 1, p)
				require.NotEmpty(t, p.Message)
			}
			return
		}
		_, err = json.Marshal(cfg.Merged())
		require.NoError(t, err)
	})
}
