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
		"contains([36], data.customer.age)":                         true,
		"data.customer.age == [36]":                                 false,
		"not_null(data.x, [5]) == [5]":                              true,
		"data.a == data.b == `true`":                                true,
		"(data.a == 1 || `\"x\"`) == 'x'":                           true,
		"data.total == 1500.5 | @":                                  true,
		"!event.seq == `false`":                                     true,
		"(event.seq) == 3 && (event.id) != 'x'":                     true,
		"data.items[?price == 3] | [0].sku == 'x'":                  true,
		"event.tenant_id == `null` && event.source == 'shop'":       true,
		"event.schema_version < 2":                                  true,
		"'UPDATE' == event.event_type":                              true,
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

// However a number is written, it is the same number; beyond 2^53 they are told apart as far as float64 does.
func TestConditionComparesNumbersByValue(t *testing.T) {
	row := `{"a": 100.00, "b": 100, "c": 1e2, "list": [100.00, [1.0]], "same": [100, [1]], "obj": {"x": 100.0, "y": {"z": 1.50}}, "other": {"y": {"z": 1.5}, "x": 1e2},
		"id": 9007199254740993, "next": 9007199254740992, "big": 12345678901234567890123456789, "huge": 1e400, "huger": 1e401, "in": [1e400], "out": [1e401], "minus": -0.0, "zero": 0}`
	for expr, want := range map[string]bool{
		"`100.00` == `100` && 100.00 == 100":                       true,
		"data.a == 100 && data.b == 100.00":                        true,
		"data.a == data.b && data.b == data.c && data.a == data.c": true,
		"data.list == data.same":                                   true,
		"data.list == `[100, [1.00]]`":                             true,
		"data.list == [100.0, `[1]`]":                              true,
		"data.obj == data.other":                                   true,
		"data.obj == `{\"x\": 100, \"y\": {\"z\": 1.500}}`":        true,
		"data.obj != data.other":                                   false,
		"data.list[0] == 100":                                      true,
		"contains(data.list, 100)":                                 true,
		"data.id == data.next":                                     true,
		"data.id > 9007199254740990":                               true,
		"data.big > 12345678901234567890123456788":                 false,
		"data.big == 12345678901234567890123456789":                true,
		"data.big > 1e28":                                          true,
		"data.huge > 1e308":                                        true,
		"data.huge == data.huger":                                  true,
		"data.in == data.out":                                      true,
		"data.minus == data.zero":                                  true,
		"data.a == '100.00'":                                       false,
	} {
		c, err := handlers.CompileCondition(expr)
		require.NoError(t, err, expr)
		e := update("", row)
		got, err := c.Match(e)
		require.NoError(t, err, expr)
		require.Equal(t, want, got, expr)
		value, err := c.Eval(e)
		require.NoError(t, err, expr)
		require.Equal(t, want, value, expr)
	}
}

// A condition that does not match costs no memory: most conditions of most events are of that kind.
func TestConditionThatDoesNotMatchAllocatesNothing(t *testing.T) {
	e := update(was, strings.Replace(is, `"note": null`, `"note": "a\u00e9\n"`, 1))
	for _, expr := range []string{
		"data.status == 'paid'", "data.status != 'shipped'", "data.missing == 'x'", "data.note == 'shipped'", "data.total > 5000", "data.customer.email == 'x'",
		"data.customer.age < 30 || data.open == `false`", "event.event_type == 'INSERT'", "event.entity_id == 'x' || event.seq > 5", "event.tenant_id != `null`",
		"before.status == 'shipped'", "changed('total')", "changed_to('status', 'paid')", "changed_from('status', 'x') || !data.open", "data.rank == 1", "!data",
	} {
		c, err := handlers.CompileCondition(expr)
		require.NoError(t, err, expr)
		require.Zero(t, testing.AllocsPerRun(50, func() {
			if ok, err := c.Match(e); ok || err != nil {
				t.Error(expr, ok, err)
			}
		}), expr)
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
		"abs(data.status) > length(data.tags) && type(data) == 'null'": "abs or length got string and takes number",
		"abs(to_string(data.rank))":                                    "abs got string and takes number",
		"starts_with(data.customer, 'a')":                              "starts_with got object and takes string",
		"keys(data.tags)":                                              "keys got array and takes object",
		"length(data.open)":                                            "length got boolean and takes string or array or object",
		"keys(data.total)":                                             "keys got number and takes object",
		"contains(data.items, data.customer)":                          "contains got a value of the wrong type",
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
		"an index beyond any list":                     {"data.tags[99999999999999999999]", "          ^", "no index"},
		"a minus":                                      {"data.a - 1", "       ^", "no arithmetic"},
		"a number with letters":                        {"data.a == 12abc", "          ^", "not a number"},
		"IS NOT NULL":                                  {"data.a IS NOT NULL", "       ^", "write == `null` or != `null`"},
		"NOT IN":                                       {"data.a NOT IN ('a')", "       ^", "NOT is SQL"},
		"LIKE":                                         {"data.a LIKE '%x%'", "       ^", "write starts_with(data.field, 'text'), ends_with or contains"},
		"BETWEEN":                                      {"data.a BETWEEN 1 AND 9", "       ^", "write data.field >= 1 && data.field <= 9"},
		"a single & for and":                           {"data.a & data.b", "       ^", "& joins nothing (write &&)"},
		"a single | for or":                            {"data.a == 1 | data.b == 2", "            ^", "| hands on true or false, which has no fields (write || for or)"},
		"an arrow for a comparison":                    {"data.a => 1", "       ^", "write >="},
		"three equals signs":                           {"data.a === 1", "         ^", "write =="},
		"a sum":                                        {"data.a + 1 > 2", "       ^", "no arithmetic"},
		"a function between what it takes":             {"data.tags contains 'a'", "          ^", "contains is a function (write contains(…)"},
		"a comparison of three":                        {"1 < data.total < 5", "               ^", "write data.field > 1 && data.field < 5"},
		"the order of an equality":                     {"data.a == data.b > 1", "                 ^", "this compares true or false"},
		"text that is compared with nothing":           {"data.status == 'a' || 'b'", "                      ^", "'b' alone is always true (write data.field == 'b')"},
		"a number that is compared with nothing":       {"(data.a == 1 || 2) && data.b", "                ^", "2 alone is always true"},
		"a bare boolean in a filter":                   {"data.items[?paid == true]", "                    ^", "write `true` between backticks"},
		"a bare null in a filter":                      {"data.items[?paid != null]", "                    ^", "write `null` between backticks"},
		"a text field of an event and a number":        {"event.entity_id == 7", "                   ^", "event.entity_id is text and never equals a number (write '7')"},
		"a number field of an event and text":          {"'5' != event.seq", "^", "event.seq is a number and never equals text (write 5 without quotes)"},
		"an event type in lower case":                  {"event.event_type == 'update'", "                    ^", "event.event_type is never 'update' (did you mean UPDATE?)"},
		"a type that is none":                          {"type(data.a) == 'text'", "                ^", "it is one of number, string, boolean, array, object, null"},
		"a count and text":                             {"length(data.tags) == '3'", "                     ^", "length is a number and never equals text (write 3 without quotes)"},
		"what is true or false and text":               {"contains(data.tags, 'a') == 'true'", "                            ^", "contains is true or false and never equals text"},
		"the order of what is true or false":           {"changed('a') > 1", "^", "changed is true or false"},
		"the order of a list":                          {"data.a > `[1]`", "         ^", "this is a list or an object"},
		"the order of null":                            {"data.a <= `null`", "          ^", "this is null"},
		"the order of an event's text":                 {"event.timestamp > 5", "^", "event.timestamp is text"},
		"changed with a root":                          {"changed('data.status')", "        ^", "write 'status'"},
		"changed_to with text without quotes":          {"changed_to('status', shipped)", "                     ^", "write 'shipped' for text, or data.shipped for a field"},
		"a number beyond all":                          {"data.a < 1e400", "         ^", "no number is that large"},
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

func FuzzCondition(f *testing.F) {
	for _, expr := range []string{
		"data.total > 1000 && changed_to('status', 'x')", "!a.b[?c > `1`] | [0]", "a[1:2:3].{b: c, d: [1, 2]}", `"q\"x" == 'r\'s'`,
		"sort_by(data.items, &price)[0]", "\x80a\u0080", "@(1)", "[*", "{a:b,", "`1", "merge(a, b) == changed('x')",
		"event.seq == length(data.tags) && [5] == event.", "data.a == 1 | @", "'a' || !event.id == 'b'", "1 < 2 < 3", "event.data.",
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
