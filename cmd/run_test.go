package cmd

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const blocked = `
[transport]
transport = "in_memory"
[security]
private_networks = "never"
[[observers]]
entity = "Order"
[[observers.actions]]
type = "webhook"
url = "http://10.0.0.1/x"
`

func TestProblemsAreJSONWhereTheFormatIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text, want string
	}{
		"of a value": {
			"[log]\nlevel = 5\n[transport]\ntransport = \"in_memory\"\n",
			`{"line": 2, "column": 9, "key": "log.level", "message": "is an integer, not text", "hint": "allowed: \"debug\", \"info\", \"warn\", \"error\""}`,
		},
		"of the syntax": {"[log\n", `{"line": 1, "column": 5, "key": "", "message": "is not TOML: expected ']' to close table name", "hint": ""}`},
		"of a condition": {
			quickstart + "[[observers]]\nentity = \"Order\"\ncondition = \"daat.x\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"x\"\n",
			`{"line": 14, "column": 13, "key": "observers[1].condition", "message": "column 1: daat is none of event, data, before, changes (did you mean data?)", "hint": ""}`,
		},
		"of an address that is blocked": {
			blocked,
			`{"line": 10, "column": 7, "key": "observers[0].actions[0].url", "message": "address 10.0.0.1 is not public: allow it with allow_cidrs in [security] if that is meant", "hint": ""}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t, "observer.toml", test.text)
			r := observer(t, "", "run", "--config", path, "--validate", "--format", "json")
			require.Equal(t, exitUsage, r.code)
			require.Empty(t, r.err)
			var printed struct {
				Valid    *bool
				Problems []map[string]any
			}
			require.NoError(t, json.Unmarshal([]byte(r.out), &printed))
			require.False(t, *printed.Valid)
			require.Len(t, printed.Problems, 1)
			require.Equal(t, path, printed.Problems[0]["file"])
			delete(printed.Problems[0], "file")
			got, err := json.Marshal(printed.Problems[0])
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(got))

			r = observer(t, "", "run", "--config", path, "--validate", "--dry-run", "--format", "json")
			require.Equal(t, exitUsage, r.code)
			require.Contains(t, r.out, `"ok": false`)
			require.Contains(t, r.out, `"name": "config"`)
		})
	}
}

func TestWarningsAndProblemsAreLogLinesWhereTheLogIsJSON(t *testing.T) {
	t.Parallel()
	idle := file(t, "idle.toml", "[transport.postgres]\nurl = \"postgres://localhost/app\"\n")
	r := observer(t, "", "run", "--config", idle, "--validate", "--log-format", "json")
	require.Zero(t, r.code)
	require.Regexp(t, `^\{"time":.*"level":"WARN","msg":"configuration has a warning","warning":".*observers: none is enabled: .*"\}\n$`, r.err)
	for name, text := range map[string]string{"a value": "[log]\nformat = \"json\"\nlevel = 5\n", "the syntax": "[log"} {
		r = observer(t, "", "run", "--config", file(t, "observer.toml", text), "--log-format", "json")
		require.Equal(t, exitUsage, r.code)
		require.Regexp(t, `(?m)^\{"time":.*"level":"ERROR","msg":"configuration is wrong","problem":".*observer.toml:.*"\}$`, r.err, name)
	}
	r = observer(t, "", "run", "--config", file(t, "observer.toml", quickstart), "--log-format", "json")
	require.Equal(t, exitUsage, r.code)
	require.Regexp(t, `^\{"time":.*"level":"ERROR","msg":"command ended with an error","error":".*--input FILE.*"\}\n$`, r.err)
}

func TestDryRunShowsEachCheckOnce(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	cfg := file(t, "observer.toml", "[transport.postgres]\nurl = \""+dsn+"\"\nauto_migrate = false\n"+quickstart[len("\n[transport]\ntransport = \"in_memory\"\n"):])
	r := observer(t, "", "run", "--config", cfg, "--validate", "--dry-run")
	require.Equal(t, exitRuntime, r.code, r.err)
	require.Regexp(t, `^ok       postgres     answers\nFAILED   schema       check schema: .*run: observer migrate\n$`, r.out)

	succeeds(t, "migrate", "--config", cfg)
	var printed struct {
		OK     bool
		Checks []checkLine
	}
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "run", "--config", cfg, "--dry-run", "--format", "json")), &printed))
	require.True(t, printed.OK)
	require.Equal(t, []checkLine{
		{"postgres", "ok", "answers"},
		{"schema", "ok", "current"},
		{"checkpoint", "ok", "none yet; a first start reads from now"},
		{"captures", "note", "no table is captured as Order: run: observer capture add TABLE --entity Order"},
	}, printed.Checks)
}
