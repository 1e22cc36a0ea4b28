package event_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

func TestRawTrimsImagesAndTakesEmptyOnesForNull(t *testing.T) {
	e := &event.Event{Data: json.RawMessage(" {\"a\" : [ 1 , 2 ] }\n"), Before: json.RawMessage(""), Changes: json.RawMessage(" null ")}
	for path, want := range map[string]string{"data": `{"a" : [ 1 , 2 ] }`, "before": "null", "changes": "null"} {
		raw, ok := e.Raw(path)
		require.True(t, ok)
		require.Equal(t, want, raw)
	}
	raw, ok := e.Raw("data", "a")
	require.True(t, ok)
	require.Equal(t, "[ 1 , 2 ]", raw)
}

func TestRawOfAFieldAllocatesNothing(t *testing.T) {
	e := order()
	for _, path := range [][]string{{"data", "status"}, {"data", "customer", "email"}, {"changes", "status", "old"}, {"data"}, {"before", "nope"}} {
		require.Zero(t, testing.AllocsPerRun(20, func() { _, _ = e.Raw(path...) }), path)
	}
}

func TestWithinWalksObjectsAndLists(t *testing.T) {
	const raw = `{"a": [{"b": 1.50}, [null]], "a b": {"": "x"}, "twice": 1, "twice": {"c": 2}}`
	for name, tc := range map[string]struct {
		path  []string
		want  string
		found bool
	}{
		"nothing is the whole":         {nil, raw, true},
		"an element of a list":         {[]string{"a", "0", "b"}, "1.50", true},
		"a null that is there":         {[]string{"a", "1", "0"}, "null", true},
		"a name with a space":          {[]string{"a b", ""}, `"x"`, true},
		"the last of two":              {[]string{"twice", "c"}, "2", true},
		"an element beyond the end":    {[]string{"a", "2"}, "", false},
		"an element before the start":  {[]string{"a", "-1"}, "", false},
		"a name in a list":             {[]string{"a", "b"}, "", false},
		"a name in a number":           {[]string{"a", "0", "b", "c"}, "", false},
		"a name that is part of a key": {[]string{"tw"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := event.Within(raw, tc.path)
			require.Equal(t, tc.found, ok)
			if ok {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestValueIsWhatConditionsSee(t *testing.T) {
	v, err := event.Value(`{"a": [1.50, 1e400, null], "b": "\u00e9"}`)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": []any{1.5, math.Inf(1), nil}, "b": "é"}, v)
	_, err = event.Value(`{`)
	require.Error(t, err)
}
