package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the expected output of testdata")

// setEnvironment replaces every variable that could reach a file of testdata.
func setEnvironment(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if name == "DATABASE_URL" || strings.HasPrefix(name, "FRAISEQL_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range map[string]string{
		"TEST_PASSWORD": "hunter2", "TEST_BATCH": "250", "TEST_FLAG": "off", "TEST_LENGTH": "12s",
		"TEST_NETWORK": "192.0.2.7/32", "TEST_URL": "https://example.com/hunter2", "TEST_TEXT": "hunter2",
	} {
		t.Setenv(name, value)
	}
}

func TestFilesGiveTheExpectedOutput(t *testing.T) {
	setEnvironment(t)
	t.Chdir("testdata")
	files, err := filepath.Glob("*.toml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			cfg, err := Load(file, Options{})
			if strings.HasSuffix(file, ".good.toml") {
				require.NoError(t, err)
			} else {
				var problems *Problems
				require.ErrorAs(t, err, &problems)
			}
			expectGolden(t, strings.TrimSuffix(file, ".toml")+".txt", output(cfg, err))
		})
	}
}

// output is what --validate prints: problems, warnings, and for a good file the merged result.
func output(cfg *Config, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	if cfg != nil {
		for _, w := range cfg.Warnings {
			fmt.Fprintln(&b, "warning:", w)
		}
	}
	if err == nil {
		for _, s := range cfg.Merged() {
			fmt.Fprintf(&b, "%s = %v [%s]\n", s.Key, s.Value, s.Source)
		}
	}
	return b.String()
}

func expectGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update and read what it wrote")
	require.Equal(t, string(want), got)
}

func TestOneFileShowsEveryKindOfMistakeWithItsPlace(t *testing.T) {
	setEnvironment(t)
	_, err := Load(filepath.Join("testdata", "mistakes.bad.toml"), Options{})
	var problems *Problems
	require.ErrorAs(t, err, &problems)
	require.GreaterOrEqual(t, len(problems.List), 20)
	for _, p := range problems.List {
		require.NotZero(t, p.Line, p)
		require.NotZero(t, p.Col, p)
		require.NotEmpty(t, p.Key, p)
		require.NotEmpty(t, p.Message)
	}
	require.NotContains(t, err.Error(), "hunter2", "a secret reached the output")
}
