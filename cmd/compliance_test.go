package cmd

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// differences are the public cases that the condition language answers in another way, each for a reason that
// its contract gives.
var differences = map[string]string{
	"foo.[abc, 1]":            "a bare number is a literal, so a list may hold it",
	"foo.[0, 1]":              "a bare number is a literal, so a list may hold it",
	"[?\"\\\\\">`\"foo\"`]":   "JMESPath orders numbers only: the order of text is always null, and refused",
	"[?\"\\\\\" > `\"foo\"`]": "JMESPath orders numbers only: the order of text is always null, and refused",
}

// complianceCases are the public test cases of JMESPath (https://github.com/jmespath/jmespath.test) for one document.
type complianceCases struct {
	Given json.RawMessage
	Cases []struct {
		Expression string
		Result     json.RawMessage
		Error      string
	}
}

// Each case runs as a user would type it, with its document as data. Behind "data |" an expression means what it means
// alone over the document: a pipe binds least and hands one value on, and names behind it are not those of an event.
func TestJMESPathComplianceCasesPassThroughEval(t *testing.T) {
	t.Parallel()
	ran, differ := 0, map[string]bool{}
	for name, suites := range compliance(t) {
		for _, suite := range suites {
			event := `{"entity_type": "Case", "data": ` + string(suite.Given) + `}`
			for _, c := range suite.Cases {
				r := observer(t, event, "eval", "data | "+c.Expression, "--event", "-", "--format", "json")
				if agrees(t, r, c.Error != "", c.Result) == (differences[c.Expression] != "") {
					t.Errorf("%s: %s: want %s %s, got %s %s", name, c.Expression, c.Result, c.Error, r.out, r.err)
				}
				ran++
				differ[c.Expression] = differ[c.Expression] || differences[c.Expression] != ""
			}
		}
	}
	require.Greater(t, ran, 800)
	for expression := range differences {
		require.True(t, differ[expression], "%s is among no cases", expression)
	}
}

// agrees reports whether eval did what a case asks for.
func agrees(t *testing.T, r outcome, fails bool, want json.RawMessage) bool {
	t.Helper()
	if fails || r.code != 0 {
		return fails == (r.code != 0)
	}
	var got struct{ Result any }
	var result any
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.NoError(t, json.Unmarshal(want, &result))
	return canonical(t, got.Result) == canonical(t, result)
}

func canonical(t *testing.T, value any) string {
	t.Helper()
	b, err := json.Marshal(value)
	require.NoError(t, err)
	return string(b)
}

// compliance reads the cases that the library brings with it.
func compliance(t *testing.T) map[string][]complianceCases {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/jmespath/go-jmespath").Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "compliance", "*.json"))
	require.NoError(t, err)
	all := map[string][]complianceCases{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var suites []complianceCases
		require.NoError(t, json.Unmarshal(text, &suites), path)
		all[filepath.Base(path)] = suites
	}
	return all
}
