package cmd

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/config"
)

func TestTheLogLevelComesFromFlagThenEnvironmentThenRustLogThenFile(t *testing.T) {
	for name, test := range map[string]struct {
		flag, env, rust, file string
		want                  slog.Level
	}{
		"nothing":                          {"", "", "", "", slog.LevelInfo},
		"the file":                         {"", "", "", "warn", slog.LevelWarn},
		"RUST_LOG over the file":           {"", "", "debug", "warn", slog.LevelDebug},
		"our variable over RUST_LOG":       {"", "error", "debug", "warn", slog.LevelError},
		"the flag over all":                {"debug", "error", "info", "warn", slog.LevelDebug},
		"RUST_LOG in upper case":           {"", "", "WARN", "", slog.LevelWarn},
		"a trace is as fine as it gets":    {"", "", "trace", "", slog.LevelDebug},
		"off hides errors":                 {"", "", "off", "", slog.LevelError + 1},
		"a target of the original":         {"", "", "warn,fraiseql_observer=debug", "", slog.LevelDebug},
		"targets of other programs":        {"", "", "hyper=debug,tokio=trace", "warn", slog.LevelWarn},
		"a RUST_LOG that is no level":      {"", "", "a,b=c", "error", slog.LevelError},
		"an own target before the general": {"", "", "observer=error, debug", "", slog.LevelError},
	} {
		t.Run(name, func(t *testing.T) {
			if test.env != "" {
				t.Setenv("FRAISEQL_LOG_LEVEL", test.env)
			}
			text := "[transport]\ntransport = \"in_memory\"\n"
			if test.file != "" {
				text += "[log]\nlevel = \"" + test.file + "\"\n"
			}
			cfg, err := config.Load(file(t, "observer.toml", text), config.Options{Needs: config.NeedsNothing})
			require.NoError(t, err)
			p := &program{getenv: func(name string) string { return map[string]string{"RUST_LOG": test.rust}[name] }}
			p.flags.logLevel.value = test.flag
			require.Equal(t, test.want, p.logLevel(cfg))
		})
	}
}

func TestTheLogFormatComesFromFlagThenFile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flag, file string
		json       bool
	}{
		"nothing":          {"", "text", false},
		"JSON in the file": {"", "json", true},
		"JSON as a flag":   {"json", "text", true},
		"text over JSON":   {"text", "json", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var errOut bytes.Buffer
			p := &program{err: &errOut, getenv: func(string) string { return "" }}
			p.flags.logFormat.value = test.flag
			p.logger(&config.Config{Log: config.Log{Level: "info", Format: test.file}}).Info("hello")
			require.Equal(t, test.json, errOut.Bytes()[0] == '{')
		})
	}
}

func TestAnErrorIsALogLineWhereTheLogIsJSON(t *testing.T) {
	t.Parallel()
	r := observer(t, "", "migrate", "--config", configFor(t, "postgres://u@127.0.0.1:1/d?sslmode=disable"), "--log-format", "json")
	require.Equal(t, exitRuntime, r.code)
	require.Regexp(t, `^\{.*"level":"ERROR","msg":"command ended with an error","error":"connect to postgres: .*\}\n$`, r.err)
}

func TestWarningsOfTheFileAreShown(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", "channel_capacity = 100\n[transport]\ntransport = \"in_memory\"\n")
	p := &program{getenv: func(string) string { return "" }}
	require.NoError(t, p.apply(nil))
	var errOut bytes.Buffer
	p.err = &errOut
	p.flags.config = cfg
	_, err := p.load(&cobra.Command{}, config.NeedsNothing)
	require.NoError(t, err)
	require.Contains(t, errOut.String(), "warning: "+cfg+":1:1: channel_capacity")
}
