package cmd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEvalPrintsResultAndTruth(t *testing.T) {
	t.Parallel()
	order := `{"entity_type": "Order", "event_type": "UPDATE", "data": {"status": "shipped", "total": 1200, "tags": ["<a>"]},
		"before": {"status": "paid"}, "changes": {"status": {"old": "paid", "new": "shipped"}}}`
	for name, test := range map[string]struct {
		expr, out string
	}{
		"a comparison":              {"data.total > 1000", "true\ntrue\n"},
		"one that does not hold":    {"data.total > 5000", "false\nfalse\n"},
		"a value":                   {"data.total", "1200\ntrue\n"},
		"an object":                 {"{s: data.status}", "{\"s\":\"shipped\"}\ntrue\n"},
		"a missing field":           {"data.nothing", "null\nfalse\n"},
		"an empty list":             {"data.tags[?@ == 'b']", "[]\nfalse\n"},
		"text as it is":             {"data.tags[0]", "\"<a>\"\ntrue\n"},
		"a function of ours":        {"changed_to('status', 'shipped')", "true\ntrue\n"},
		"the type of the event":     {"event.event_type", "\"UPDATE\"\ntrue\n"},
		"a comparison with nothing": {"data.nothing < 5", "null\nfalse\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			piped := observer(t, order, "eval", test.expr, "--event", "-")
			require.Zero(t, piped.code, piped.err)
			require.Equal(t, test.out, piped.out)
			require.Equal(t, test.out, succeeds(t, "eval", test.expr, "--event", file(t, "event.json", order)))
		})
	}
	t.Run("without an event every root is null", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "[null,null,null]\ntrue\n", succeeds(t, "eval", "[data, before, changes]"))
	})
	t.Run("as JSON", func(t *testing.T) {
		t.Parallel()
		require.JSONEq(t, `{"result": [1], "match": true}`, succeeds(t, "eval", "`[1]`", "--format", "json"))
	})
}

func TestEvalRefuses(t *testing.T) {
	t.Parallel()
	broken := file(t, "broken.toml", "nonsense = 1\n")
	for name, test := range map[string]struct {
		in, says string
		args     []string
		code     int
	}{
		"what is no condition, with a caret":     {"", "data.total >\n            ^\n", []string{"data.total >"}, exitUsage},
		"an order of text":                       {"", "column", []string{"data.total > 'abc'"}, exitUsage},
		"what is no event":                       {"[1]", "read event from standard input", []string{"data.a", "--event", "-"}, exitUsage},
		"an event without entity_type":           {`{"data": 1}`, `"entity_type" is missing`, []string{"data.a", "--event", "-"}, exitUsage},
		"a file that is not there":               {"", "no/such.json", []string{"data.a", "--event", "no/such.json"}, exitUsage},
		"an empty file name":                     {"", "read", []string{"data.a", "--event", ""}, exitUsage},
		"a wrong configuration, if one is named": {"", "nonsense", []string{"data.a", "--config", broken}, exitUsage},
		"a function on a wrong type": {
			`{"entity_type": "Order", "data": {"n": 5}}`, "takes it for false", []string{"starts_with(data.n, 'a')", "--event", "-"}, exitRuntime,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observer(t, test.in, append([]string{"eval"}, test.args...)...)
			require.Equal(t, test.code, r.code, r.err)
			require.Contains(t, r.err, test.says)
			require.Empty(t, r.out)
		})
	}
}

func TestVersionSaysWhatTheBinaryIs(t *testing.T) {
	t.Parallel()
	text := succeeds(t, "version")
	require.Regexp(t, `^observer \S+ \(.*go1\.`, text)
	require.Equal(t, text, succeeds(t, "--version"))
	var b build
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "version", "--format", "json")), &b))
	require.Equal(t, buildInfo(), b)
}

func TestTheVersionComesFromTheLinkerThenTheModule(t *testing.T) {
	t.Parallel()
	require.Equal(t, "v1.0.0", build{Version: "v1.0.0"}.named("v2.0.0").Version)
	require.Equal(t, "v2.0.0", build{}.named("v2.0.0").Version)
	require.Equal(t, "dev", build{}.named("(devel)").Version)
	require.Equal(t, "dev", build{}.named("").Version)
	require.Equal(t, "observer v1 (commit abc with changes, go1, linux/amd64)",
		build{Version: "v1", Commit: "abc", Modified: true, Go: "go1", Platform: "linux/amd64"}.String())
}

func TestSchemaPrintsAJSONSchema(t *testing.T) {
	t.Parallel()
	var schema struct {
		Schema     string         `json:"$schema"`
		Properties map[string]any `json:"properties"`
	}
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, "schema")), &schema))
	require.Contains(t, schema.Schema, "json-schema.org")
	require.Contains(t, schema.Properties, "observers")
}

func TestCompletionPrintsAScript(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, succeeds(t, "completion", shell), "observer", shell)
	}
	require.Contains(t, succeeds(t, "__complete", "dlq", ""), "retry")
}

func TestMigratePrintNeedsNoDatabase(t *testing.T) {
	t.Parallel()
	out := succeeds(t, "migrate", "--print")
	require.True(t, strings.HasPrefix(out, "--"), "it begins with a comment")
	require.Contains(t, out, "core.tb_entity_change_log")
}
