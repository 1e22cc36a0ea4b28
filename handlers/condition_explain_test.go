package handlers

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

func order(before, data string) *event.Event {
	e := &event.Event{ID: "x", Type: event.Update, Entity: "Order", EntityID: "7", Data: json.RawMessage(data)}
	if before != "" {
		e.Before = json.RawMessage(before)
		e.Changes = event.Diff(e.Before, e.Data)
	}
	return e
}

var explainedOrder = order(`{"id": 7, "status": "pending", "total": 250.00}`,
	`{"id": 7, "status": "paid", "total": 250.00, "note": null, "paid": true, "price": "12.50", "big": 9007199254740993, "tags": ["a", "b"], `+
		`"customer": {"name": "Ada", "email": "ada@example.com"}, "items": [{"sku": "x", "price": 3}], "text": "`+strings.Repeat("é", 80)+`"}`)

func TestALeafIsToldWithTheValuesFound(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]struct {
		value  bool
		reason string
	}{
		"data.total > 1000":                                 {false, "data.total is 250.00"},
		"data.total > 100":                                  {true, "data.total is 250.00"},
		"(data.total>1000)":                                 {false, "data.total is 250.00"},
		"data.big == 9007199254740993":                      {true, "data.big is 9007199254740993"},
		"1000 < data.total":                                 {false, "data.total is 250.00"},
		"data.status == before.status":                      {false, `data.status is "paid"; before.status is "pending"`},
		"data.status == data.status":                        {true, `data.status is "paid"`},
		"data.note":                                         {false, "data.note is null"},
		"data.tags[-1] == 'a'":                              {false, `data.tags[-1] is "b"`},
		"data.items[0].price > 5":                           {false, "data.items[0].price is 3"},
		"event.data.total > 300":                            {false, "event.data.total is 250.00"},
		"event.event_type == 'INSERT'":                      {false, `event.event_type is "UPDATE"`},
		"data.text == 'x'":                                  {false, `data.text is "` + strings.Repeat("é", 59) + "…"},
		"data.customer == before":                           {false, `data.customer is {"name":"Ada","email":"ada@example.com"}; before is {"id":7,"status":"pending","total":250.00}`},
		"data.price > 10":                                   {false, `data.price is "12.50", and > compares numbers only`},
		"data.id == '7'":                                    {false, "data.id is 7, and a number never equals text"},
		"data.id != '7'":                                    {true, "data.id is 7, and a number never equals text"},
		"data.paid == 'true'":                               {false, "data.paid is true, and a boolean never equals text"},
		"data.tags == data.customer":                        {false, `data.tags is ["a","b"]; data.customer is {"name":"Ada","email":"ada@example.com"}, and a list never equals an object`},
		"length(data.tags) > 3":                             {false, "length(data.tags) is 2"},
		"contains(data.tags, 'c')":                          {false, `data.tags is ["a","b"]`},
		"contains(data.tags, data.status)":                  {false, `data.tags is ["a","b"]; data.status is "paid"`},
		"data.items[?price > 5]":                            {false, "data.items[?price > 5] is []"},
		"data.items[?price > 5].sku == `[]`":                {true, "data.items[?price > 5].sku is []"},
		"data | status == 'shipped'":                        {false, "data | status == 'shipped' is false"},
		"!data.total == data.paid":                          {false, "!data.total is false; data.paid is true"},
		"`true`":                                            {true, ""},
		"{data: data.total}.data > 300":                     {false, "{data: data.total}.data is 250"},
		"data.totl > 1000":                                  {false, "data.totl is null: there is no such field (did you mean total? data has id, status, total, note, paid, price, big, tags, customer, items, text)"},
		"data.customer.nme == 'x'":                          {false, "data.customer.nme is null: there is no such field (did you mean name? data.customer has name, email)"},
		"data.customer.name.first == 'x'":                   {false, `data.customer.name.first is null: data.customer.name is "Ada"`},
		"data.note.text == 'x'":                             {false, "data.note.text is null: data.note is null"},
		"data.tags[5] == 'x'":                               {false, "data.tags[5] is null: the length of data.tags is 2"},
		"data.items.price > 5":                              {false, "data.items.price is null: data.items is a list"},
		"data.customer[0] == 'x'":                           {false, "data.customer[0] is null: data.customer is an object, not a list"},
		"data.itms[?price > 5]":                             {false, "data.itms[?price > 5] is null; data.itms is null: there is no such field (did you mean items? data has id, status, total, note, paid, price, big, tags, customer, items, text)"},
		"changes.status.new == 'x'":                         {false, `changes.status.new is "paid"`},
		"changes.total.new == 'x'":                          {false, "changes.total.new is null: total did not change: it is 250.00"},
		"changed('status')":                                 {true, `status went from "pending" to "paid"`},
		"changed_to('status', 'shipped')":                   {false, `status went from "pending" to "paid"`},
		"changed_from('status', 'new')":                     {false, `status went from "pending" to "paid"`},
		"changed_to('status', data.customer.name)":          {false, `status went from "pending" to "paid"; data.customer.name is "Ada"`},
		"changed_to('big', '9007199254740993')":             {false, "big went from null to 9007199254740993, and a number never equals text"},
		"changed('total')":                                  {false, "total did not change: it is 250.00"},
		"changed('totl')":                                   {false, "totl did not change: there is no such field (did you mean total? data has id, status, total, note, paid, price, big, tags, customer, items, text)"},
		"contains(data.items[?changes.total], changes)":     {false, `data.items is [{"sku":"x","price":3}]; changes is {"status":{"old":"pending","new":"paid"},"note":{"old":null,…`},
		"sort_by(data.items, &data)[0].sku == `null`":       {false, `sort_by(data.items, &data)[0].sku is "x"`},
		"data.total >\n\t1000":                              {false, "data.total is 250.00"},
		"length(data.customer.name) == length(data.status)": {false, "length(data.customer.name) is 3; length(data.status) is 4"},
	} {
		t.Run(expr, func(t *testing.T) {
			t.Parallel()
			c, err := ExplainCondition(expr, explainedOrder)
			require.NoError(t, err)
			require.Empty(t, c.Parts)
			require.Equal(t, want.value, c.Value)
			require.Equal(t, want.reason, c.Reason)
			require.Equal(t, strings.Join(strings.Fields(expr), " "), c.Source)
		})
	}
}

func TestChangesThatAreUnknownAreToldAsSuch(t *testing.T) {
	t.Parallel()
	insert := &event.Event{Type: event.Insert, Entity: "Order", Data: json.RawMessage(`{"status": "new"}`)}
	for name, test := range map[string]struct {
		event      *event.Event
		expr, want string
	}{
		"an UPDATE without a before-image":   {order("", `{}`), "changed('a')", "the changes are unknown: the event has no before-image"},
		"an INSERT":                          {insert, "changed('a')", "the changes are unknown: only an UPDATE has some, and this event is of type INSERT"},
		"a path to them":                     {insert, "changes.a.new == 1", "changes.a.new is null: the changes are unknown: only an UPDATE has some, and this event is of type INSERT"},
		"a path to the before-image":         {insert, "before.status == 'x'", "before.status is null: the event has no before-image"},
		"an UPDATE that does not hold them":  {&event.Event{Type: event.Update, Before: json.RawMessage(`{}`)}, "changed('a')", "the changes are unknown"},
		"no data at all":                     {&event.Event{Type: event.Custom}, "data.a == 1", "data.a is null: data is null"},
		"a field of an empty row":            {order(`{}`, `{}`), "changed('a')", "a did not change: there is no such field (data has no field)"},
		"a field of what is no row":          {&event.Event{Data: json.RawMessage(`[1]`), Changes: json.RawMessage(`{}`)}, "changed('a')", "a did not change"},
		"one of more fields than are listed": {order("", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1}`), "data.zz", "data.zz is null: there is no such field (data has a, b, c, d, e, f, g, h, i, j, k, l and 2 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := ExplainCondition(test.expr, test.event)
			require.NoError(t, err)
			require.False(t, c.Value)
			require.Equal(t, test.want, c.Reason)
		})
	}
}

// outline writes a clause as "+" or "-" or "error" and its source, with its parts in brackets.
func outline(c *Clause) string {
	text := map[bool]string{true: "+", false: "-"}[c.Value] + c.Source
	if c.Error != "" {
		text = "error " + c.Source
	}
	if c.Operator == "" {
		return text
	}
	parts := make([]string, len(c.Parts))
	for i, part := range c.Parts {
		parts[i] = outline(part)
	}
	return text + " " + c.Operator + "[" + strings.Join(parts, ", ") + "]"
}

func TestAConditionIsTakenApartAsItBinds(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]struct{ outline, blamed string }{
		"data.id && data.nope && data.no":                          {"-data.id && data.nope && data.no &&[+data.id, -data.nope, -data.no]", "data.nope"},
		"data.id || data.nope && data.note":                        {"+data.id || data.nope && data.note ||[+data.id, -data.nope && data.note &&[-data.nope, -data.note]]", ""},
		"data.nope||data.note":                                     {"-data.nope||data.note ||[-data.nope, -data.note]", "data.nope||data.note"},
		"(data.nope || data.id) && (data.note)":                    {"-(data.nope || data.id) && (data.note) &&[+(data.nope || data.id) ||[-data.nope, +data.id], -(data.note)]", "(data.note)"},
		"data.id && (data.paid && (data.nope || data.note))":       {"-data.id && (data.paid && (data.nope || data.note)) &&[+data.id, -(data.paid && (data.nope || data.note)) &&[+data.paid, -(data.nope || data.note) ||[-data.nope, -data.note]]]", "(data.nope || data.note)"},
		"!data.customer.name":                                      {"-!data.customer.name ![+data.customer.name]", "!data.customer.name"},
		"!!data.id":                                                {"+!!data.id ![-!data.id ![+data.id]]", ""},
		"!!!data.id":                                               {"-!!!data.id", "!!!data.id"},
		"!(data.nope && data.id) && data.id":                       {"+!(data.nope && data.id) && data.id &&[+!(data.nope && data.id) ![-(data.nope && data.id) &&[-data.nope, +data.id]], +data.id]", ""},
		"!data.id == data.paid":                                    {"-!data.id == data.paid", "!data.id == data.paid"},
		"!data.items[?price > 1 && sku]":                           {"-!data.items[?price > 1 && sku] ![+data.items[?price > 1 && sku]]", "!data.items[?price > 1 && sku]"},
		"(data | id || status) && data.id":                         {"+(data | id || status) && data.id &&[+(data | id || status), +data.id]", ""},
		"contains(data.tags, data.a || 'a') && {a: data || data}":  {"+contains(data.tags, data.a || 'a') && {a: data || data} &&[+contains(data.tags, data.a || 'a'), +{a: data || data}]", ""},
		"data.id\n  && data.status == 'a  b'":                      {"-data.id && data.status == 'a  b' &&[+data.id, -data.status == 'a  b']", "data.status == 'a  b'"},
		"data.nope && abs(data.status)":                            {"-data.nope && abs(data.status) &&[-data.nope, error abs(data.status)]", "data.nope"},
		"data.id && abs(data.status) && data.nope":                 {"error data.id && abs(data.status) && data.nope &&[+data.id, error abs(data.status), -data.nope]", "abs(data.status)"},
		"data.id || abs(data.status)":                              {"+data.id || abs(data.status) ||[+data.id, error abs(data.status)]", ""},
		"data.nope || !abs(data.status)":                           {"error data.nope || !abs(data.status) ||[-data.nope, error !abs(data.status) ![error abs(data.status)]]", "abs(data.status)"},
		"changed('status') && !changed_to('status', data.no || 1)": {"+changed('status') && !changed_to('status', data.no || 1) &&[+changed('status'), +!changed_to('status', data.no || 1) ![-changed_to('status', data.no || 1)]]", ""},
	} {
		t.Run(expr, func(t *testing.T) {
			t.Parallel()
			c, err := ExplainCondition(expr, explainedOrder)
			require.NoError(t, err)
			require.Equal(t, want.outline, outline(c))
			blamed := ""
			if b := c.Blame(); b != nil {
				blamed = b.Source
			}
			require.Equal(t, want.blamed, blamed)
		})
	}
}

func TestAPartThatCannotBeEvaluatedSaysWhy(t *testing.T) {
	t.Parallel()
	c, err := ExplainCondition("data.id && length(data.tgs) > 1", explainedOrder)
	require.NoError(t, err)
	require.Equal(t, "length got null and takes string or array or object", c.Error)
	require.Equal(t, c.Error, c.Parts[1].Error)
	require.Contains(t, c.Parts[1].Reason, "data.tgs is null: there is no such field (did you mean tags? ")
}

func TestWhatIsNoConditionIsNotExplained(t *testing.T) {
	t.Parallel()
	_, err := ExplainCondition("data.a >", explainedOrder)
	_, want := CompileCondition("data.a >")
	require.Equal(t, want, err)
}

// agrees requires that an explanation says what the condition itself does.
func agrees(t require.TestingT, expr string, e *event.Event) {
	condition, err := CompileCondition(expr)
	require.NoError(t, err, expr)
	want, failed := condition.Match(e)
	c, err := ExplainCondition(expr, e)
	require.NoError(t, err, expr)
	require.Equal(t, want, c.Value, "%s\ndata %s\nbefore %s\n%s", expr, e.Data, e.Before, outline(c))
	require.Equal(t, failed != nil, c.Error != "", "%s\ndata %s\n%v\n%s", expr, e.Data, failed, outline(c))
	require.Equal(t, want, c.Blame() == nil, expr)
}

func TestExplanationsAgreeWithEveryConditionOfTheTests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"condition_test.go", "condition_fast_test.go"} {
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		conditions := 0
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == gotoken.STRING {
				expr, err := strconv.Unquote(text.Value)
				require.NoError(t, err)
				if _, err := CompileCondition(expr); err == nil {
					conditions++
					agrees(t, expr, explainedOrder)
					agrees(t, expr, &event.Event{Type: event.Insert})
				}
			}
			return true
		})
		require.Greater(t, conditions, 10, name)
	}
}

func TestExplanationsAgreeWithTheirConditions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := &event.Event{ID: "x", Type: event.Update, Entity: "Order", Data: row(t, "data"), Before: row(t, "before")}
		e.Changes = event.Diff(e.Before, e.Data)
		expr := anyBoolean(t, 3)
		if _, err := CompileCondition(expr); err != nil {
			t.Skip("refused")
		}
		agrees(t, expr, e)
	})
}

// anyBoolean draws conditions that go beyond those of the fast path, some of which cannot be evaluated.
func anyBoolean(t *rapid.T, depth int) string {
	if depth == 0 {
		return boolean(t, 1)
	}
	one := func() string { return anyBoolean(t, depth-1) }
	switch rapid.IntRange(0, 9).Draw(t, "any form") {
	case 0:
		return one() + " && " + one()
	case 1:
		return one() + "||" + one()
	case 2:
		return "(\n" + one() + " )"
	case 3:
		return "!(" + one() + ")"
	case 4:
		return "!!(" + one() + ")"
	case 5:
		return "(" + one() + ") == `true`"
	case 6:
		return fmt.Sprintf("%s(%s)", rapid.SampledFrom([]string{"length", "abs", "keys", "not_null", "type"}).Draw(t, "function"), one())
	case 7:
		return rapid.SampledFrom([]string{"!", ""}).Draw(t, "not") + path(t) + rapid.SampledFrom([]string{"[0]", "[]", "[?a == b || c]", ".*", "[-1:]", ".[a, b]", ".{a: b}"}).Draw(t, "projection")
	case 8:
		return "(" + one() + " | @) && " + one()
	}
	return boolean(t, 2)
}

func FuzzExplainCondition(f *testing.F) {
	for _, expr := range []string{
		"data.total > 1000 && changed_to('status', 'x')", "!data.b[?c > `1`] | [0]", "data[1:2:3].{b: c, d: [1, 2]} || !(data && !!data.a == 1)",
		"sort_by(data.items, &price)[0] && abs(data)", "@.data[0]", "[data || before][0]", "merge(data, before) == changed('x')", "{event: event.id}",
	} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if _, err := CompileCondition(expr); err != nil {
			return
		}
		agrees(t, expr, explainedOrder)
	})
}
