package handlers

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

func TestWhatConditionsRequire(t *testing.T) {
	for condition, want := range map[string]string{
		"data.status == 'paid'":                                    "data.status = paid",
		"'paid' == data.status":                                    "data.status = paid",
		"data.customer.country == `\"é\"`":                         "data.customer.country = é",
		"event.before.status == ''":                                "before.status = ",
		`data."a b" == 'it\'s'`:                                    "data.a b = it's",
		"changed_to('status', 'paid')":                             "changes.status.new = paid",
		"changed_from('status', 'paid')":                           "changes.status.old = paid",
		"data.total > 5 && (changed('a') && data.b == 'x')":        "data.b = x",
		"data.a == 'x' && data.b == 'y'":                           "data.a = x",
		"(data.a == 'x' || data.b == 'y') && data.c == 'z'":        "data.c = z",
		"!data.a && data.b == 'y'":                                 "data.b = y",
		"data.a == 'x' || data.b == 'y'":                           "",
		"!(data.a == 'x')":                                         "",
		"!!(data.a == 'x')":                                        "",
		"data.a != 'x'":                                            "",
		"data.a == 1":                                              "",
		"data.a == `null`":                                         "",
		"data.a == data.b":                                         "",
		"'a' == 'b'":                                               "",
		"changed('status')":                                        "",
		"changed_to('status', data.other)":                         "",
		"event.tenant_id == 'x'":                                   "",
		"event.timestamp == 'x'":                                   "",
		"event.timestamp.x == 'x'":                                 "",
		"data.a == 'x' && length(data.list) > 1":                   "",
		"length(data.list) > 1 && data.a == 'x'":                   "",
		"data.a == 'x' && data.list[0] == 'y'":                     "",
		"data.items[?status == 'x'] && contains(data.tags, 'new')": "",
	} {
		c, err := CompileCondition(condition)
		require.NoError(t, err, condition)
		path, text, ok := c.Requires()
		require.Equal(t, want != "", ok, condition)
		if ok {
			require.Equal(t, want, strings.Join(path, ".")+" = "+text, condition)
		}
	}
	_, _, ok := (*Condition)(nil).Requires()
	require.False(t, ok)
}

func TestNamesOfATemplateRequireNothing(t *testing.T) {
	for _, condition := range []string{"item.a == 'x'", "data.a == 'x'"} {
		c, err := compileCondition(condition, []string{"item", "data"})
		require.NoError(t, err)
		_, _, ok := c.Requires()
		require.False(t, ok, condition)
	}
}

// Whoever looks for the required text never misses an event that the condition holds for, however odd text, names and
// values are.
func TestAConditionHoldsOnlyWithWhatItRequires(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(spellings).Draw(t, "text")
		e := &event.Event{ID: "x", Type: event.Update, Entity: "Order", Data: holding(t, text, "data"), Before: holding(t, text, "before")}
		e.Changes = event.Diff(e.Before, e.Data)
		expr := conjunction(t, text.literal)
		c, err := CompileCondition(expr)
		require.NoError(t, err)
		path, want, ok := c.Requires()
		require.True(t, ok, expr)
		matched, err := c.Match(e)
		require.NoError(t, err)
		if raw, _ := e.Raw(path...); event.Text(raw) != want {
			require.False(t, matched, "%s\ndata %s\nbefore %s", expr, e.Data, e.Before)
			value, err := c.Eval(e)
			require.NoError(t, err)
			require.False(t, truthy(value), "%s\ndata %s\nbefore %s", expr, e.Data, e.Before)
		}
	})
}

// The spellings of the test above are such that conditions do hold: it does not pass for want of a match.
func TestAConditionHoldsWithWhatItRequires(t *testing.T) {
	for _, text := range spellings {
		c, err := CompileCondition("data.a == " + text.literal)
		require.NoError(t, err)
		matched, err := c.Match(&event.Event{ID: "x", Type: event.Insert, Entity: "Order", Data: json.RawMessage(`{"a": ` + text.values[0] + `}`)})
		require.NoError(t, err)
		require.Equal(t, utf8.ValidString(text.literal), matched, text.literal) // a row in Postgres has no other text
	}
}

// spelling is a text in a condition and in rows.
type spelling struct {
	literal string
	values  []string
}

var spellings = []spelling{
	{"''", []string{`""`}},
	{"'a'", []string{`"a"`, `"\u0061"`}},
	{"'1'", []string{`"1"`, `1`}},
	{"'é'", []string{`"é"`, `"\u00e9"`}},
	{`'\n'`, []string{`"\\n"`, `"\n"`}},
	{"`\"\\n\"`", []string{`"\n"`, `"\u000a"`}},
	{`'"'`, []string{`"\""`}},
	{`'\''`, []string{`"'"`, `"\u0027"`}},
	{"'\ufffd'", []string{`"\ufffd"`, `"\ud800"`, "\"\xff\"", "\"\ufffd\""}},
	{"'\xff'", []string{"\"\xff\"", `"\ufffd"`}},
	{"`\"\\ud800\"`", []string{`"\ud800"`, `"\ufffd"`}},
	{"'`'", []string{"\"`\""}},
}

// holding returns a row that often has the text somewhere.
func holding(t *rapid.T, text spelling, label string) json.RawMessage {
	value := rapid.SampledFrom(append(slices.Clone(values), text.values...)).Draw(t, label+" value")
	if there := rapid.SampledFrom(text.values).Draw(t, label+" spelling"); rapid.Bool().Draw(t, label+" is there") {
		value = there
	}
	return rapid.SampledFrom([]json.RawMessage{
		row(t, label), json.RawMessage(`{"a": ` + value + `, "b": "` + label + `"}`), json.RawMessage(`{"b": ` + value + `, "a": {"a": ` + value + `}}`),
		json.RawMessage(`{"a": 1, "a": ` + value + `}`),
	}).Draw(t, label)
}

// conjunction is a condition that requires a text.
func conjunction(t *rapid.T, text string) string {
	name := rapid.SampledFrom(names).Draw(t, "name")
	is := rapid.SampledFrom([]string{
		"data.NAME == TEXT", "TEXT == data.NAME", "event.data.NAME == TEXT", "before.NAME == TEXT", "data.a.NAME == TEXT",
		"changes.NAME.new == TEXT", "changed_to('NAME', TEXT)", "changed_from('NAME', TEXT)", "(data.NAME == TEXT)",
	}).Draw(t, "comparison")
	is = strings.NewReplacer("NAME", name, "TEXT", text).Replace(is)
	return rapid.SampledFrom([]string{is, is, is + " && (" + boolean(t, 2) + ")", "(" + boolean(t, 2) + ") && " + is}).Draw(t, "conjunction")
}
