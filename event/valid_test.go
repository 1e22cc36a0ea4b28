package event

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzValidIsThatOfPackageJSON holds the fast check against the slow one.
func FuzzValidIsThatOfPackageJSON(f *testing.F) {
	for _, seed := range []string{
		`{"entity_type": "Order", "data": {"id": 12345678901234567890, "total": -0.50e+10, "note": "é\u00e9\ud800\n", "tags": [1, true, false, null]}}`,
		"", " ", "{}", "[]", "[1,]", `{"a":1,}`, `{"a" 1}`, "01", "-", "-0", "1.", ".5", "1e", "1e5", "+1", "nul", "truee", `"a`, "\"a\x01\"", `"\x"`, `"\u12g4"`, "{}{}", "\ufeff{}",
		"{\"a\":\xff}", "\"\xff\"", "[[[]]]", "[[[]]", "\v{}", "{}\x00", "\"\x7f\"", `{1:2}`, `{"a":1 "b":2}`, `["a" "b"]`, `{,}`, `[,]`, `"\`, "[1 ,\t2\r\n]", "--1", "1-", "1.e5", "Infinity",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.Equal(t, json.Valid(b), valid(b), "%q", b)
	})
}

func TestWhatNestsTooDeepIsNotValid(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	require.True(t, valid(nested(maxDepth)))
	require.False(t, valid(nested(maxDepth+1)))
	require.False(t, valid(nested(5_000_000)))
	require.True(t, valid([]byte(`["`+strings.Repeat("[", 2*maxDepth)+`"]`)), "it only looks like it")
}
