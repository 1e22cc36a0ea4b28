package handlers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

// The fast path must answer what go-jmespath answers, for any simple condition and any row.
func TestFastConditionsAgreeWithJMESPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &event.Event{ID: "x", Type: event.Update, Entity: "Order", Data: row(t, "data"), Before: row(t, "before")}
		e.Changes = event.Diff(e.Before, e.Data)
		expr := boolean(t, 3)
		c, err := CompileCondition(expr)
		require.NoError(t, err)
		require.NotNil(t, c.fast, expr)
		value, err := c.Eval(e)
		require.NoError(t, err)
		require.Equal(t, truthy(value), c.fast(e, nil), "%s\ndata %s\nbefore %s\ngives %v", expr, e.Data, e.Before, value)
	})
}

func TestOnlySimpleConditionsAreFast(t *testing.T) {
	for expr, want := range map[string]bool{
		"data.a == 1 && !(data.b || changed('c'))": true,
		"!data.a.b":                   true,
		"(data.a) == 1":               false,
		"!data.a == data.b":           false,
		"data.a == data.b == data.c":  false,
		"data.a | b":                  false,
		"data.a[0] == 1":              false,
		"data.*":                      false,
		"length(data.a) > 1":          false,
		"data.a == `[1]`":             false,
		"changed_to('a', data.b | c)": false,
		"@ == data.a":                 false,
	} {
		c, err := CompileCondition(expr)
		require.NoError(t, err, expr)
		require.Equal(t, want, c.fast != nil, expr)
	}
}

func TestFastComparisonsAgreeWithJMESPathForEveryPair(t *testing.T) {
	for _, value := range append(values, "") {
		e := &event.Event{ID: "x", Data: json.RawMessage(`{"a": ` + value + `, "b": "a"}`)}
		if value == "" {
			e.Data = json.RawMessage(`{}`)
		}
		for _, right := range append(literals, "data.b", "data.a") {
			for _, op := range []string{"==", "!=", "<", ">="} {
				c, err := CompileCondition("data.a " + op + " " + right)
				if err != nil && strings.ContainsAny(op, "<>") {
					continue // no order of text
				}
				require.NoError(t, err)
				require.NotNil(t, c.fast)
				want, err := c.Eval(e)
				require.NoError(t, err)
				require.Equal(t, truthy(want), c.fast(e, nil), "%s %s %s", value, op, right)
			}
		}
	}
}

func TestFastComparisonsOfTheEventAgreeWithJMESPath(t *testing.T) {
	full := &event.Event{
		ID: "a", Type: event.Insert, Entity: "'", EntityID: "1", TenantID: "é", UserID: "\xff", Source: "a", ActorType: `"`, Seq: 1, SchemaVersion: 0,
		Timestamp: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Data: json.RawMessage(`{"a": "1", "b": "a"}`),
	}
	ran := 0
	for _, e := range []*event.Event{full, {}} {
		for _, field := range append(slices.Clone(attributes), "nope") {
			for _, right := range append(literals, "data.b", "data.a", "event.id", "event.seq", "before") {
				for _, op := range []string{"==", "!=", "<", ">="} {
					c, err := CompileCondition("event." + field + " " + op + " " + right)
					if err != nil {
						continue // it can never hold
					}
					require.NotNil(t, c.fast)
					want, err := c.Eval(e)
					require.NoError(t, err)
					require.Equal(t, truthy(want), c.fast(e, nil), "%s %s %s", field, op, right)
					ran++
				}
			}
		}
	}
	require.Greater(t, ran, 500)
}

// Few names and values, so that they often meet; the odd ones among them are what decoders disagree about.
var (
	names  = []string{"a", "b", "c"}
	values = []string{
		`null`, `true`, `false`, `0`, `1`, `-1`, `1.0`, `1e0`, `12.50`, `9007199254740993`, `9007199254740992`, `1e400`, `-0`,
		`""`, `"a"`, `"1"`, `"\u0061"`, `"é"`, `"\u00e9"`, `"\ud800"`, `"\n"`, `"\\n"`, `"\""`, `"'"`, "\"`\"", "\"\xff\"", `"\ufffd"`,
		`[]`, `[ ]`, `[1]`, `[1.0]`, `{}`, `{ }`, `{"a": 1}`, `{"a": 1, "b": "a"}`, `{"b": "a", "a": 1}`, `{"a": {"a": "a"}}`, `{"a": 2, "a": 1}`,
	}
	starts = []string{"data", "before", "changes", "event.data", "event.before", "data.a", "data.nowhere", `"data"`}
)

func row(t *rapid.T, label string) json.RawMessage {
	if rapid.IntRange(0, 9).Draw(t, label+" is missing") == 0 {
		return nil
	}
	var fields []string
	for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, label+" fields") {
		fields = append(fields, fmt.Sprintf("%q: %s", name, rapid.SampledFrom(values).Draw(t, label+" value")))
	}
	return json.RawMessage("{" + strings.Join(fields, ", ") + "}")
}

func boolean(t *rapid.T, depth int) string {
	form := rapid.IntRange(0, 7).Draw(t, "form")
	if depth == 0 {
		form = 6
	}
	switch form {
	case 0, 1:
		return boolean(t, depth-1) + " && " + boolean(t, depth-1)
	case 2:
		return boolean(t, depth-1) + " || " + boolean(t, depth-1)
	case 3:
		return "(" + boolean(t, depth-1) + ")"
	case 4:
		return "!(" + boolean(t, depth-1) + ")"
	case 5:
		return rapid.SampledFrom([]string{
			"changed('a')", "!changed('b')", "changed_to('a', " + side(t) + ")", "changed_from('a', " + side(t) + ")",
		}).Draw(t, "change")
	case 6:
		return rapid.SampledFrom([]string{"", "!", "!!"}).Draw(t, "not") + path(t)
	default:
		op := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "operator")
		left, right := side(t), side(t)
		if op[0] == '<' || op[0] == '>' {
			left, right = path(t), rapid.SampledFrom([]string{path(t), "1", "-0.5", "`12.5`"}).Draw(t, "number")
		}
		return left + " " + op + " " + right
	}
}

func path(t *rapid.T) string {
	root := rapid.SampledFrom(starts).Draw(t, "root")
	rest := rapid.SliceOfN(rapid.SampledFrom(append(names, `"a"`, "old", "new")), 0, 3).Draw(t, "path")
	return strings.Join(append([]string{root}, rest...), ".")
}

func side(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{path(t), path(t), path(t)}, literals...)).Draw(t, "side")
}

var literals = []string{
	"1", "12.5", "-1", "9007199254740993", "''", "'a'", "'1'", "'é'", `'\n'`, `'"'`, `'\''`, "'\ufffd'", "'\xff'",
	"`null`", "`true`", "`false`", "`\"a\"`", "`\"\\u0061\"`", "`\"\\n\"`", "`\" \"`", "` 1 `", "`0`",
}
