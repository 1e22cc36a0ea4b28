package handlers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/handlers"
)

const (
	was = `{"status": "paid", "total": 1500.50, "note": null, "tags": ["a", "b"], "open": false, "customer": {"email": "ada@example.com", "age": 36}, "items": [{"sku": "x", "price": 3}, {"sku": "y", "price": 1}]}`
	is  = `{"status": "shipped", "total": 1500.50, "note": null, "tags": ["a", "b"], "open": true, "customer": {"email": "ada@example.com", "age": 36}, "items": [{"sku": "x", "price": 3}, {"sku": "y", "price": 1}], "rank": 9007199254740993}`
)

func TestConditionMatches(t *testing.T) {
	for expr, want := range map[string]bool{
		"data.status == 'shipped'":                                  true,
		"data.status != 'shipped'":                                  false,
		"event.event_type == 'UPDATE' && event.entity_id == '7'":    true,
		"event.data.status == data.status":                          true,
		"before.status == 'paid'":                                   true,
		"data.total > 1000":                                         true,
		"data.total > 1500.5":                                       false,
		"data.total >= 1500.50":                                     true,
		"data.total > -3":                                           true,
		"data.total < 1.6e3":                                        true,
		"1000 < data.total":                                         true,
		"data.total == `1500.50`":                                   true,
		"data.total == 1500.500":                                    true,
		"data.missing == 'x'":                                       false,
		"data.missing != 'x'":                                       true,
		"data.missing > 1":                                          false,
		"data.missing < 1":                                          false,
		"data.missing.deeper != 3":                                  true,
		"data.note == `null`":                                       true,
		"data.nowhere == `null`":                                    true,
		"data.status":                                               true,
		"data.note":                                                 false,
		"data.open && !before.open":                                 true,
		"!data.customer.email":                                      false,
		"!data.missing.deeper":                                      true,
		"!!data.customer.email":                                     true,
		"!data.tags[0]":                                             false,
		"!data.items[?price > 5]":                                   true,
		"!length(data.tags)":                                        false,
		"!(data.status == 'paid')":                                  true,
		"data.tags[0] == 'a'":                                       true,
		"data.tags[-1] == 'b'":                                      true,
		"data.tags[0:1] == ['a']":                                   true,
		"length(data.tags[::2]) == 1":                               true,
		"contains([1, 2, 36], data.customer.age)":                   true,
		"contains(`[1, 36]`, data.customer.age)":                    true,
		"contains(data.tags, 'b')":                                  true,
		"length(data.items[?price > 1]) == 1":                       true,
		"length(data.items[?sku == '1 > 2']) == 0":                  true,
		"data.status == '12'":                                       false,
		`data."status" == 'shipped'`:                                true,
		"starts_with(data.customer.email, 'ada')":                   true,
		"not_null(data.missing, 7) == 7":                            true,
		"changed('status')":                                         true,
		"changed('total')":                                          false,
		"changed('rank')":                                           true,
		"changed_to('status', 'shipped')":                           true,
		"changed_to('status', 'paid')":                              false,
		"changed_from('status', 'paid')":                            true,
		"changed_to('total', 1500.5)":                               false,
		"changed_from('rank', `null`)":                              true,
		"changed_from('total', `null`)":                             false,
		"changed_to('status', data.status)":                         true,
		"changed_to('status', not_null(data.x, 'shipped'))":         true,
		"!changed('status') || data.total > 5":                      true,
		"changed ( 'status' ) && data.total > 5":                    true,
		"[changed('status'), changed('total')] == [`true`,`false`]": true,
		"\n\tdata.total > 1000\n\t&& data.open\n":                   true,
		"sort_by(data.items, &price)[0].sku == 'y'":                 true,
		"(data.total > 1) == data.open":                             true,
		"data.rank > 9007199254740000":                              true,
		"data.items":                                                true,
		"data.customer == before.customer":                          true,
		"data.customer":                                             true,
		"data.status == 'it\\'s'":                                   false,
		"{not: data.open, \"or\": data.rank}.not":                   true,
		"data.items[?price > rank] == `[]`":                         true,
		"data.items[*].{a: sku, b: price}[0].a == 'x'":              true,
		"data.items[*].[sku, price] | [0][0] == 'x'":                true,
		"@.data.status == 'shipped'":                                true,
		"data | status == 'shipped'":                                true,
		"max_by(data.items, &price).sku == 'x'":                     true,
		"(data | status) == 'shipped' && data.open":                 true,
		"length(map(&sku, data.items)) == 2":                        true,
		"data.items[0].order == `null`":                             true,
		"event.data.and == `null` && \"data\".open":                 true,
	} {
		t.Run(expr, func(t *testing.T) {
			c, err := handlers.CompileCondition(expr)
			require.NoError(t, err)
			got, err := c.Match(update(was, is))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestChangedIsFalseWhereChangesAreUnknown(t *testing.T) {
	e := update("", is)
	for _, expr := range []string{"changed('status')", "changed_to('status', `null`)", "changed_from('note', data.note)"} {
		c, err := handlers.CompileCondition(expr)
		require.NoError(t, err)
		got, err := c.Match(e)
		require.NoError(t, err)
		require.False(t, got, expr)
		value, err := c.Eval(e)
		require.NoError(t, err)
		require.Equal(t, false, value, expr)
	}
}

func TestConditionTypeErrorIsFalseAndHoldsNoRowData(t *testing.T) {
	for name, expr := range map[string]string{
		"a function that takes text":            "starts_with(data.customer, 'ada')",
		"a number of what is text":              "abs(data.status) > 1",
		"objects that cannot be compared":       "contains(data.items, data.customer)",
		"merge of what is no object":            "merge(data.status)",
		"a step of nothing":                     "data.tags[::0]",
		"a mistake inside a negation is no hit": "!abs(data.status)",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := handlers.CompileCondition(expr)
			require.NoError(t, err)
			got, err := c.Match(update(was, is))
			require.ErrorContains(t, err, "evaluate condition: ")
			require.False(t, got)
			require.NotContains(t, err.Error(), "ada@")
			require.NotContains(t, err.Error(), "shipped")
		})
	}
}

func TestConditionTypeErrorNamesTheFunctionAndWhatItGot(t *testing.T) {
	for expr, want := range map[string]string{
		"length(data.nope)": "length got null and takes string or array or object",
		"abs(data.status) > length(data.tags) && type(data) == 'x'": "abs or length got string and takes number",
		"abs(to_string(data.rank))":                                 "abs got string and takes number",
		"starts_with(data.customer, 'a')":                           "starts_with got object and takes string",
		"keys(data.tags)":                                           "keys got array and takes object",
		"length(data.open)":                                         "length got boolean and takes string or array or object",
		"keys(data.total)":                                          "keys got number and takes object",
		"contains(data.items, data.customer)":                       "contains got a value of the wrong type",
	} {
		c, err := handlers.CompileCondition(expr)
		require.NoError(t, err)
		_, err = c.Eval(update(was, is))
		require.EqualError(t, err, "evaluate condition: "+want, expr)
	}
}

func TestConditionSyntaxErrors(t *testing.T) {
	for name, tc := range map[string]struct{ expr, caret, want string }{
		"text without quotes at the end":               {"data.status == ", "               ^", "incomplete condition"},
		"a single equals sign":                         {"data.status = 'x'", "            ^", "write =="},
		"a word for an operator":                       {"data.a > 1 AND data.b", "           ^", "AND is SQL (write &&)"},
		"after a rewritten number":                     {"data.a > 100 && data.b > 2000 )", "                              ^", "nothing opened this )"},
		"behind rewritten pieces":                      {"changed_to('a', 17) && 12.5 == data.b ]x", "                                      ^", "nothing opened this ]"},
		"found by the library behind rewritten pieces": {"changed('a') && data.b > 12 12", "                            ^", "unexpected"},
		"a misspelt root":                              {"data.a && daat.total > 5", "          ^", "daat is none of event, data, before, changes (did you mean data?)"},
		"a field without its root":                     {"status == 'x'", "^", "did you mean data.status?"},
		"text in double quotes":                        {`data.status == "it's"`, "               ^", `text stands between single quotes: 'it\'s'`},
		"text without quotes":                          {"data.status == shipped", "               ^", "write 'shipped' for text, or data.shipped for a field"},
		"a number in double quotes":                    {`data.total > "1000"`, "             ^", "write 1000 without quotes"},
		"a field that is ordered, without its root":    {`data.total > limit`, "             ^", "did you mean data.limit?"},
		"a bare boolean":                               {"data.paid == true", "             ^", "write `true` between backticks"},
		"a bare null":                                  {"data.paid != null", "             ^", "write `null` between backticks"},
		"a name in a function":                         {"length(itms) > 1", "       ^", "did you mean data.itms?"},
		"a name after another argument":                {"contains(data.tags[?@ | x], tag)", "                            ^", "did you mean data.tag?"},
		"a name in a list":                             {"[data.a, total]", "         ^", "did you mean data.total?"},
		"a name in an object":                          {"{a: total}", "    ^", "did you mean data.total?"},
		"a name behind the current value":              {"@.total > 1", "  ^", "did you mean data.total?"},
		"what no event has":                            {"event.entity == 'Order'", "      ^", "an event has no entity (it has id,"},
		"what an event has, misspelt":                  {"event.entity_tpye == 'Order'", "      ^", "did you mean entity_type?"},
		"OR in lower case":                             {"data.a or data.b", "       ^", "or is SQL (write ||)"},
		"NOT before a bracket":                         {"NOT (data.a)", "^", "NOT is SQL (write !"},
		"NOT before a name":                            {"data.a && not data.b", "          ^", "not is SQL (write !"},
		"IS NULL":                                      {"data.a IS NULL", "       ^", "write == `null`"},
		"IN":                                           {"data.a in ('a', 'b')", "       ^", "write contains("},
		"AND inside a filter":                          {"data.items[?price > 1 AND sku == 'x']", "                      ^", "AND is SQL (write &&)"},
		"not equal as in SQL":                          {"data.a <> 1", "       ^", "write !="},
		"an open bracket":                              {"(data.a > 1", "           ^", "the end"},
		"an open text":                                 {"data.a == 'x", "          ^", "has no end"},
		"order of text":                                {"data.created > '2026-01-01'", "               ^", "compares numbers only"},
		"order of JSON text":                           {"`\"a\"` <= data.created", "^", "compares numbers only"},
		"a number behind a dot":                        {"data.items.0", "           ^", "write [0]"},
		"an unknown function":                          {"data.a && lower(data.b) == 'x'", "          ^", "unknown function lower"},
		"too few arguments":                            {"contains(data.tags)", "        ^", "contains takes 2 arguments, not 1"},
		"no argument":                                  {"length( ) > 1", "      ^", "length takes one argument, not 0"},
		"changed without a field":                      {"changed(status)", "        ^", "write changed('field')"},
		"changed with too much":                        {"changed('a', 1)", "       ^", "changed takes one argument, not 2"},
		"changed_to without a value":                   {"changed_to('a')", "              ^", "takes a value after the field"},
		"changed_to with an empty one":                 {"changed_to('a', )", "                ^", "unexpected"},
		"changed inside a filter":                      {"data.items[?changed('a')]", "            ^", "out of sight"},
		"changed after a pipe":                         {"data | changed('a')", "       ^", "out of sight"},
		"a fraction as index":                          {"data.tags[1.5]", "          ^", "no index"},
		"an index beyond any list":                     {"[99999999999999999999]", " ^", "no index"},
		"a minus":                                      {"data.a - 1", "       ^", "no arithmetic"},
		"a number with letters":                        {"data.a == 12abc", "          ^", "not a number"},
		"other characters":                             {"data.a == “x”", "          ^", "unexpected character"},
		"a call of what is no function":                {"data.tags[0](1)", "            ^", "only the name of a function"},
		"JSON that is none":                            {"data.a == `{x}`", "          ^", "not JSON"},
		"nothing":                                      {"", "^", "empty condition"},
		"the second line":                              {"data.a == 1 &&\n\tdata.b = 2", "\t       ^", "line 2, column 9"},
		"characters of several bytes":                  {"data.a == 'ééé' == =", "                   ^", "column 20"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.CompileCondition(tc.expr)
			var wrong *handlers.SyntaxError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, tc.want)
			_, under, _ := strings.Cut(wrong.Caret(), "\n")
			require.Equal(t, tc.caret, under, wrong.Caret())
		})
	}
}

func TestDeepOrLongConditionsAreRefused(t *testing.T) {
	for _, expr := range []string{strings.Repeat("(", 1000) + "a", strings.Repeat("!", 20<<10) + "a", strings.Repeat("[?", 200)} {
		_, err := handlers.CompileCondition(expr)
		require.Error(t, err)
	}
	_, err := handlers.CompileCondition(strings.Repeat("!", 10_000) + "data.b")
	require.NoError(t, err)
}

func TestNilConditionMatchesEveryEvent(t *testing.T) {
	var c *handlers.Condition
	got, err := c.Match(update(was, is))
	require.NoError(t, err)
	require.True(t, got)
}

func TestConditionsThatSortDoNotDisturbOthers(t *testing.T) {
	e := update(was, is)
	sorted, err := handlers.CompileCondition("sort_by(data.items, &price)[0].sku == 'y'")
	require.NoError(t, err)
	first, err := handlers.CompileCondition("data.items[0].sku == 'x'")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, c := range []*handlers.Condition{sorted, first} {
				if ok, err := c.Match(e); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestEvalReturnsTheValue(t *testing.T) {
	c, err := handlers.CompileCondition("{n: length(data.tags), to: data.customer.email}")
	require.NoError(t, err)
	value, err := c.Eval(update(was, is))
	require.NoError(t, err)
	b, err := json.Marshal(value)
	require.NoError(t, err)
	require.JSONEq(t, `{"n":2,"to":"ada@example.com"}`, string(b))
}

func FuzzCompileCondition(f *testing.F) {
	for _, expr := range []string{
		"data.total > 1000 && changed_to('status', 'x')", "!a.b[?c > `1`] | [0]", "a[1:2:3].{b: c, d: [1, 2]}", `"q\"x" == 'r\'s'`,
		"sort_by(data.items, &price)[0]", "\x80a\u0080", "@(1)", "[*", "{a:b,", "`1", "merge(a, b) == changed('x')",
	} {
		f.Add(expr)
	}
	e := update(was, is)
	f.Fuzz(func(t *testing.T, expr string) {
		c, err := handlers.CompileCondition(expr)
		if err != nil {
			var wrong *handlers.SyntaxError
			if !errors.As(err, &wrong) {
				t.Fatalf("%T: %v", err, err)
			}
			_ = fmt.Sprint(wrong, wrong.Caret())
			return
		}
		_, _ = c.Match(e)
		_, _ = c.Eval(e)
	})
}

func BenchmarkHundredConditions(b *testing.B) {
	var list []*handlers.Condition
	for i := range 100 {
		c, err := handlers.CompileCondition(fmt.Sprintf("data.status == 'state-%d' && data.total > %d", i, i))
		require.NoError(b, err)
		list = append(list, c)
	}
	b.ReportAllocs()
	for b.Loop() {
		e := update("", is)
		for _, c := range list {
			if ok, _ := c.Match(e); ok {
				b.Fatal("no condition should match")
			}
		}
	}
}
