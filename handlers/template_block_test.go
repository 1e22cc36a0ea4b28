package handlers_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

const rowForBlocks = `{"id": 7, "total": 1200, "status": "paid", "none": null, "empty": [], "tags": ["a", "b", "c"], "name": "Ada",
	"items": [{"sku": "x", "n": 1, "unit price": 1.50, "sizes": [1, 2]}, {"sku": "y", "n": 2, "unit price": 20.00, "sizes": []}],
	"matrix": [[1, 2], [3], null, "z"], "evil": ["{{ data.id }}", "{{ end }}", "<b>\"&", "a\r\nb"], "item": "row", "deep": {"list": [{"a": [true]}]}}`

// renderBlocks renders a template for a place.
func renderBlocks(t *testing.T, pos handlers.Position, src string) (string, error) {
	t.Helper()
	tpl, err := handlers.CompileTemplate(src, pos)
	require.NoError(t, err, src)
	out, err := tpl.Render(update(`{"status": "new"}`, rowForBlocks))
	return string(out), err
}

func TestTemplateBlocks(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"an if that holds":                       {`a{{ if data.total > 1000 }}b{{ end }}c`, "abc"},
		"an if that does not hold":               {`a{{ if data.total > 5000 }}b{{ end }}c`, "ac"},
		"an if of a missing field":               {`{{ if data.nope }}b{{ else }}none{{ end }}`, "none"},
		"an else":                                {`{{ if data.none }}b{{ else }}c{{ end }}`, "c"},
		"an else if":                             {`{{ if data.id == 1 }}1{{ else if data.id == 7 }}7{{ else if data.id > 1 }}no{{ else }}no{{ end }}`, "7"},
		"the else behind an else if":             {`{{ if data.id == 1 }}1{{ else if data.id == 2 }}2{{ else }}x{{ end }}`, "x"},
		"an else if without an else":             {`{{ if data.id == 1 }}1{{ else if data.id == 2 }}2{{ end }}.`, "."},
		"an if in an if":                         {`{{ if data.id }}{{ if data.none }}a{{ else }}b{{ end }}{{ else }}c{{ end }}`, "b"},
		"a condition with functions":             {`{{ if changed_to('status', 'paid') && length(data.tags) == 3 }}x{{ end }}`, "x"},
		"a condition with braces and quotes":     {"{{ if data.status == '}}' || data.status != `\"}}\"` }}x{{ end }}", "x"},
		"an if without spaces":                   {`{{if(data.id)}}x{{else}}y{{end}}`, "x"},
		"a tag on several lines":                 {"{{ if\r\n\tdata.id\n}}x{{\n end }}", "x"},
		"a loop":                                 {`{{ for tag in data.tags }}<{{ tag }}>{{ end }}`, "<a><b><c>"},
		"a loop over objects":                    {`{{ for item in data.items }}{{ item.n }} × {{ item.sku }} at {{ item."unit price" }}; {{ end }}`, "1 × x at 1.50; 2 × y at 20.00; "},
		"where a loop is":                        {`{{ for x in data.tags }}{{ loop.index }}{{ x }}{{ loop.first }}{{ loop.last }} {{ end }}`, "1atruefalse 2bfalsefalse 3cfalsetrue "},
		"a separator":                            {`{{ for x in data.tags }}{{ if !loop.first }}, {{ end }}{{ x }}{{ end }}`, "a, b, c"},
		"the loop's position as a whole":         {`{{ for x in data.deep.list }}{{ loop }}{{ end }}`, `{"index":1,"first":true,"last":true}`},
		"a loop over null":                       {`a{{ for x in data.none }}{{ x }}{{ end }}b`, "ab"},
		"a loop over an empty list":              {`a{{ for x in data.empty }}{{ x }}{{ end }}b`, "ab"},
		"a loop in a loop":                       {`{{ for i in data.items }}{{ i.sku }}:{{ for s in i.sizes }}{{ i.n }}.{{ s }} {{ end }}{{ end }}`, "x:1.1 1.2 y:"},
		"the inner loop's position":              {`{{ for i in data.items }}{{ for s in data.tags }}{{ loop.index }}{{ end }}{{ loop.index }} {{ end }}`, "1231 1232 "},
		"a loop over lists, text and null":       {`{{ for row in data.matrix }}[{{ row }}]{{ end }}`, "[[1, 2]][[3]][][z]"},
		"a condition on the loop's variable":     {`{{ for i in data.items }}{{ if i.n > 1 }}{{ i.sku }}{{ end }}{{ end }}`, "y"},
		"a condition on the loop's position":     {`{{ for i in data.items }}{{ if loop.last && loop.index == 2 }}{{ i.sku }}{{ end }}{{ end }}`, "y"},
		"functions on the loop's variable":       {`{{ for i in data.items }}{{ if length(i.sizes) > 1 && data.id == 7 && loop.first }}{{ i.sku }}{{ end }}{{ end }}`, "x"},
		"a filter on the loop's variable":        {`{{ for i in data.items }}{{ if i.sizes[?@ == 2] }}{{ i.sku }}{{ end }}{{ end }}`, "x"},
		"a condition on an outer variable":       {`{{ for i in data.items }}{{ for t in data.tags }}{{ if i.n == 2 && contains(t, 'b') }}{{ i.sku }}{{ t }}{{ end }}{{ end }}{{ end }}`, "yb"},
		"a variable that hides an outer one":     {`{{ for x in data.items }}{{ for x in x.sizes }}{{ x }}{{ if x == 2 }}!{{ end }}{{ end }}{{ x.sku }} {{ end }}`, "12!x y "},
		"a hidden one in a condition":            {`{{ for x in data.items }}{{ for x in x.sizes }}{{ if to_number(x) == 2 }}{{ x }}{{ end }}{{ end }}{{ end }}`, "2"},
		"a variable named like a field":          {`{{ for item in data.tags }}{{ item }}{{ data.item }}{{ end }}`, "arowbrowcrow"},
		"a variable in other letters":            {`{{ for lineItem in data.items }}{{ lineItem.sku }}{{ end }}`, "xy"},
		"an element of a list":                   {`{{ data.items[1]."unit price" }} {{ data.tags[0] }}`, "20.00 a"},
		"a default in a loop":                    {`{{ for i in data.items }}{{ i.nope | default 'none' }} {{ end }}`, "none none "},
		"a loop through the event":               {`{{ for x in event.data.tags }}{{ x }}{{ end }}`, "abc"},
		"a list in a list":                       {`{{ for x in data.deep.list[0].a }}{{ x }}{{ end }}`, "true"},
		"lines with nothing but a tag":           {"a\n{{ if data.id }}\nb\n  {{ else }}  \nc\n{{ end }}\nd\n", "a\nb\nd\n"},
		"such lines with CRLF":                   {"a\r\n\t{{ if data.id }}\t\r\nb\r\n{{ end }}\r\nd\r\n", "a\r\nb\r\nd\r\n"},
		"such a line at the ends":                {"{{ for x in data.tags }}\n- {{ x }}\n{{ end }}", "- a\n- b\n- c\n"},
		"two such lines in a row":                {"{{ if data.id }}\n{{ for x in data.tags }}\n{{ x }}\n{{ end }}\n{{ end }}\n.", "a\nb\nc\n."},
		"lines with a tag and something else":    {"a {{ if data.id }}\nb\n{{ end }}c\n", "a \nb\nc\n"},
		"a placeholder alone on a line keeps it": {"a\n{{ data.id }}\nb", "a\n7\nb"},
		"an empty line around a tag stays":       {"a\n\n{{ if data.id }}\n\nb\n{{ end }}\n\nc", "a\n\n\nb\n\nc"},
		"a row that looks like a template":       {`{{ for x in data.evil }}({{ x }}){{ end }}`, "({{ data.id }})({{ end }})(<b>\"&)(a\r\nb)"},
		"braces that are none of a template":     {`{ {a} } }} {{ data.id }}}`, "{ {a} } }} 7}"},
		"the words of blocks in the text":        {`if for else end {{ data.id }} end`, "if for else end 7 end"},
		"an if that writes nothing":              {`{{ if data.id }}{{ end }}{{ for x in data.tags }}{{ end }}.`, "."},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := renderBlocks(t, handlers.Plain, tc.src)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestTemplateBlocksByPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		pos       handlers.Position
		src, want string
	}{
		"Slack":                          {handlers.Slack, `{{ for x in data.evil }}{{ if loop.index == 3 }}*{{ x }}* <!here>{{ end }}{{ end }}`, `*&lt;b&gt;"&amp;* <!here>`},
		"a subject":                      {handlers.Subject, "{{ if data.id }}\nOrder\t{{ data.evil[3] }}\n{{ end }}", "Order a  b "},
		"a JSON string":                  {handlers.JSONBody, `{"text": "{{ for x in data.evil }}{{ x }};{{ end }}"}`, `{"text": "{{ data.id }};{{ end }};<b>\"&;a\r\nb;"}`},
		"an if in a JSON string":         {handlers.JSONBody, `["{{ if data.status == 'paid' }}yes \"{{ data.id }}\"{{ else }}no{{ end }}"]`, `["yes \"7\""]`},
		"objects in a JSON string":       {handlers.JSONBody, `["{{ for i in data.deep.list }}{{ i }}{{ end }}"]`, `["{\"a\": [true]}"]`},
		"a JSON string as a key":         {handlers.JSONBody, `{"{{ if data.id }}a{{ end }}b": {{ data.id }}}`, `{"ab": 7}`},
		"an empty branch in a string":    {handlers.JSONBody, `["{{ if data.none }}a{{ end }}", 1]`, `["", 1]`},
		"escapes around a block":         {handlers.JSONBody, `["\\{{ if data.id }}\n{{ end }}\u0041"]`, `["\\\n\u0041"]`},
		"a default in a JSON string":     {handlers.JSONBody, `["{{ data.nope | default "a\"b\n" }}", "{{ data.nope | default 'it\'s' }}"]`, `["a\"b\n", "it's"]`},
		"text that is no UTF-8 as value": {handlers.JSONBody, `[{{ before.odd }}, "{{ before.odd }}"]`, `["\ufffd", "\ufffd"]`},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := handlers.CompileTemplate(tc.src, tc.pos)
			require.NoError(t, err)
			e := update("{\"odd\": \"\xff\"}", rowForBlocks)
			got, err := tpl.Render(e)
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(tc.want, `\ufffd`, "\ufffd"), string(got))
		})
	}
}

func TestTemplateBlockErrors(t *testing.T) {
	deep := strings.Repeat("{{ if data.a }}", 21)
	chain := "{{ if data.a }}" + strings.Repeat("{{ else if data.b }}", 100) + "{{ end }}"
	for name, tc := range map[string]struct {
		pos          handlers.Position
		src, want    string
		line, column int
	}{
		"an if without an end":                {handlers.Plain, "a\n {{ if data.x }}b", "this block has no end (write {{ end }}", 2, 2},
		"a for without an end":                {handlers.Plain, "{{ for x in data.x }}", "this block has no end", 1, 1},
		"an inner block without an end":       {handlers.Plain, "{{ if data.x }}{{ for x in data.x }}{{ end }}", "this block has no end", 1, 1},
		"an else without an end":              {handlers.Plain, "{{ if data.x }}{{ else }}", "this block has no end", 1, 1},
		"an else if without an end":           {handlers.Plain, "{{ if data.x }}\n{{ else if data.y }}", "this block has no end", 1, 1},
		"an end without a block":              {handlers.Plain, "a {{ end }}", "no block is open here", 1, 3},
		"an end too much":                     {handlers.Plain, "{{ if data.x }}{{ end }}\n{{ end }}", "no block is open here", 2, 1},
		"an else without a block":             {handlers.Plain, "{{ else }}", "no block is open here", 1, 1},
		"a second else":                       {handlers.Plain, "{{ if data.x }}{{ else }}{{ else }}{{ end }}", "a second else (write {{ else if", 1, 26},
		"an else if behind else":              {handlers.Plain, "{{ if data.x }}{{ else }}{{ else if data.y }}{{ end }}", "a second else", 1, 26},
		"an else with a word":                 {handlers.Plain, "{{ if data.x }}{{ else x }}{{ end }}", "not what stands after else", 1, 24},
		"an end with a word":                  {handlers.Plain, "{{ if data.x }}{{ end if }}", "end stands alone (write {{ end }})", 1, 23},
		"an else in a for":                    {handlers.Plain, "{{ for x in data.x }}{{ else }}{{ end }}", "a for has no else", 1, 22},
		"an if without a condition":           {handlers.Plain, "{{ if }}{{ end }}", "an if without a condition (write {{ if", 1, 1},
		"an else if without a condition":      {handlers.Plain, "{{ if data.x }}{{ else if }}{{ end }}", "an if without a condition", 1, 16},
		"a condition that is none":            {handlers.Plain, "\nab{{ if data.x = 1 }}{{ end }}", "= compares nothing (write ==)", 2, 16},
		"a condition in an else if":           {handlers.Plain, "{{ if data.x }}é{{ else if dta.y }}{{ end }}", "did you mean data?", 1, 28},
		"a condition on several lines":        {handlers.Plain, "{{ if data.x &&\n  data.y > 'a' }}{{ end }}", "compares numbers only", 2, 12},
		"a variable outside of its loop":      {handlers.Plain, "{{ for x in data.x }}{{ end }}{{ x }}", "x is none of event, data, before, changes", 1, 34},
		"a condition on it outside":           {handlers.Plain, "{{ for x in data.x }}{{ end }}{{ if x }}{{ end }}", "x is none of event", 1, 37},
		"a misspelt variable":                 {handlers.Plain, "{{ for item in data.x }}{{ itm.a }}{{ end }}", "itm is none of item, loop, event, data, before, changes (did you mean item?)", 1, 28},
		"a misspelt one in a condition":       {handlers.Plain, "{{ for item in data.x }}{{ if itm.a }}{{ end }}{{ end }}", "did you mean item?", 1, 31},
		"loop outside of loops":               {handlers.Plain, "{{ loop.index }}", "loop is none of event", 1, 4},
		"what loop does not tell":             {handlers.Plain, "{{ for x in data.x }}{{ loop.lst }}{{ end }}", "a loop has no lst (did you mean last?)", 1, 30},
		"what loop does not tell an if":       {handlers.Plain, "{{ for x in data.x }}{{ if loop.idx }}{{ end }}{{ end }}", "a loop has no idx", 1, 33},
		"a loop that is none":                 {handlers.Plain, "{{ for x of data.x }}{{ end }}", "not a loop that can be read (write {{ for item in data.items }})", 1, 1},
		"a loop over nothing":                 {handlers.Plain, "{{ for x in }}{{ end }}", "not a loop that can be read", 1, 1},
		"a loop over what is no path":         {handlers.Plain, "{{ for x in 1 }}{{ end }}", "not a placeholder", 1, 13},
		"a loop over an unknown root":         {handlers.Plain, "{{ for x in items }}{{ end }}", "items is none of", 1, 13},
		"a loop with a default":               {handlers.Plain, `{{ for x in data.x | default "" }}{{ end }}`, "a loop has no default", 1, 19},
		"a loop over its own variable":        {handlers.Plain, "{{ for x in x.y }}{{ end }}", "x is none of", 1, 13},
		"a root as variable":                  {handlers.Plain, "{{ for data in data.x }}{{ end }}", "data means something else", 1, 8},
		"loop as variable":                    {handlers.Plain, "{{ for loop in data.x }}{{ end }}", "loop means something else", 1, 8},
		"a word of the language as variable":  {handlers.Plain, "{{ for end in data.x }}{{ end }}", "end means something else", 1, 8},
		"true as variable":                    {handlers.Plain, "{{ for true in data.x }}{{ end }}", "true means something else", 1, 8},
		"a word of SQL as variable":           {handlers.Plain, "{{ for Or in data.x }}{{ end }}", "Or means something else", 1, 8},
		"too many blocks in one another":      {handlers.Plain, deep, "more than 20 blocks in one another", 1, 20*15 + 1},
		"too many branches":                   {handlers.Plain, chain, "more than 100 branches", 1, 15 + 99*20 + 1},
		"another language's end":              {handlers.Plain, "{{ if data.x }}{{ endif }}", "not a placeholder (write {{ end }})", 1, 19},
		"another language's loop":             {handlers.Plain, "{{ range data.x }}", "write {{ for item in data.items }}", 1, 4},
		"another language's else if":          {handlers.Plain, "{{ if data.x }}{{ elif data.y }}{{ end }}", "write {{ else if … }}", 1, 19},
		"another language's trimming":         {handlers.Plain, "{{- if data.x -}}", "write {{ without -", 1, 3},
		"a quotation mark without end":        {handlers.Plain, "{{ if data.x == 'a }}b{{ end }}", "this ' has no end", 1, 17},
		"no braces at the end":                {handlers.Plain, "{{ if data.x ", "this {{ has no }}", 1, 1},
		"a word behind a path":                {handlers.Plain, "{{ data.x y }}", "not the end of a placeholder", 1, 10},
		"a negative element":                  {handlers.Plain, "{{ data.x[-1] }}", "not the end of a placeholder", 1, 10},
		"a block in a URL":                    {handlers.URL, "https://x/{{ if data.x }}a{{ end }}", "if and for have no place in a URL", 1, 11},
		"a loop in a header":                  {handlers.Header, "{{ for x in data.x }}a{{ end }}", "have no place in a header", 1, 1},
		"a block in a form":                   {handlers.Form, "a={{ if data.x }}a{{ end }}", "have no place in a form", 1, 3},
		"a block in a key":                    {handlers.KeyPattern, "a:{{ if data.x }}a{{ end }}", "have no place in a key", 1, 3},
		"an end in a URL":                     {handlers.URL, "https://x/{{ end }}", "no block is open here", 1, 11},
		"a line end in a header":              {handlers.Header, "a\nb {{ data.x }}", "a header cannot hold control characters", 1, 2},
		"a block in JSON outside a string":    {handlers.JSONBody, `{"a": {{ if data.x }}1{{ end }}}`, "in JSON, if and for stand inside a string only (insert a list or an object as a whole", 1, 7},
		"a loop in a JSON list":               {handlers.JSONBody, "[\n{{ for x in data.x }}{{ x }},{{ end }}]", "in JSON, if and for stand inside a string only", 2, 1},
		"a quotation mark in a block":         {handlers.JSONBody, `["{{ if data.x }}a", "b{{ end }}"]`, `a block ends in the string in which it began (write \" for a quotation mark)`, 1, 19},
		"a quotation mark in an else":         {handlers.JSONBody, `["{{ if data.x }}a{{ else }}"{{ end }}`, "a block ends in the string in which it began", 1, 29},
		"half an escape before a block":       {handlers.JSONBody, `["\{{ if data.x }}n{{ end }}"]`, "not JSON", 1, 4},
		"half an escape at a branch's end":    {handlers.JSONBody, `["{{ if data.x }}\{{ end }}n"]`, "not JSON", 1, 3},
		"half an escape across an empty else": {handlers.JSONBody, `["\u00{{ if data.x }}41{{ end }}"]`, "not JSON", 1, 7},
		"a line end in a JSON string":         {handlers.JSONBody, "[\"{{ if data.x }}\n{{ end }}\"]", "not JSON", 1, 18},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.CompileTemplate(tc.src, tc.pos)
			var wrong *handlers.SyntaxError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, tc.want)
			line, column := wrong.Position()
			require.Equal(t, [2]int{tc.line, tc.column}, [2]int{line, column}, wrong.Caret())
		})
	}
}

func TestTemplateNestsAsDeepAsItSays(t *testing.T) {
	got, err := renderBlocks(t, handlers.Plain, strings.Repeat("{{ if data.id }}", 20)+"x"+strings.Repeat("{{ end }}", 20))
	require.NoError(t, err)
	require.Equal(t, "x", got)
	got, err = renderBlocks(t, handlers.Plain, "{{ if data.none }}"+strings.Repeat("{{ else if data.none }}", 98)+"{{ else if data.id }}x{{ end }}")
	require.NoError(t, err)
	require.Equal(t, "x", got)
}

func TestTemplateBlockRenderErrors(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"a loop over a missing field":           {"{{ for x in data.nope }}{{ end }}", "render data.nope: no such field in this event (put {{ if … }} around the for)"},
		"a loop over an object":                 {"{{ for x in data.deep }}{{ end }}", "render data.deep: this is no list"},
		"a loop over text":                      {"{{ for x in data.status }}{{ end }}", "render data.status: this is no list"},
		"a loop over a number":                  {"{{ for x in data.id }}{{ end }}", "render data.id: this is no list"},
		"a loop over what is no list in a loop": {"{{ for i in data.items }}{{ for x in i.n }}{{ end }}{{ end }}", "render i.n: this is no list"},
		"a missing field in a loop":             {"{{ for i in data.items }}{{ i.nope }}{{ end }}", "render i.nope: no such field"},
		"a missing field in the branch taken":   {"{{ if data.id }}{{ data.nope }}{{ end }}", "render data.nope: no such field"},
		"a function on a wrong type":            {"a\n {{ if abs(data.status) > 1 }}{{ end }}", "render if in line 2, column 2: evaluate condition: abs got string and takes number"},
		"a function on a variable":              {"{{ for t in data.tags }}{{ if abs(t) > 1 }}{{ end }}{{ end }}", "render if in line 1, column 25: evaluate condition: abs got string"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pos := range []handlers.Position{handlers.Plain, handlers.HTML} {
				_, err := renderBlocks(t, pos, tc.src)
				require.ErrorContains(t, err, tc.want)
				require.True(t, event.IsPermanent(err))
				require.Equal(t, "template", event.Class(err))
				require.NotContains(t, err.Error(), "paid", "no row data")
			}
		})
	}
	got, err := renderBlocks(t, handlers.Plain, "{{ if data.none }}{{ data.nope }}{{ end }}.")
	require.NoError(t, err, "a branch that is not taken misses nothing")
	require.Equal(t, ".", got)
}

// A template that would write without end, or go on without writing, ends quickly and holds little.
func TestTemplateLoopsAreBounded(t *testing.T) {
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	row := fmt.Sprintf(`{"l": %s, "wide": %s, "big": [%s], "obj": {"in": {"x": %s, "y": 1}}}`,
		list(1000, "1"), list(20_000, `{"a": 1}`), list(200_000, "1"), list(100_000, "2"))
	e := update("", row)
	nest := func(depth int, over, body string) string {
		var src strings.Builder
		for i := range depth {
			fmt.Fprintf(&src, "{{ for v%d in data.%s }}", i, over)
		}
		return src.String() + body + strings.Repeat("{{ end }}", depth)
	}
	const tooMuch = "its loops go on for too long"
	const whole = "loops that write nothing" // goes on to the whole limit in any case
	for name, tc := range map[string]struct{ src, want string }{
		"text without end":                    {nest(5, "l", strings.Repeat("some text ", 10)), "its text is longer than"},
		"values without end":                  {nest(3, "l", "{{ data.wide }}"), "its text is longer than"},
		whole:                                 {nest(10, "l", ""), tooMuch},
		"conditions that never hold":          {nest(4, "l", "{{ if v0 == 2 }}x{{ end }}"), tooMuch},
		"conditions with functions":           {nest(3, "l", "{{ if contains(data.wide[].a, 'b') }}x{{ end }}"), tooMuch},
		"a large list in a small loop":        {"{{ for x in data.wide }}{{ for y in data.big }}{{ end }}{{ end }}", tooMuch},
		"a field far inside, again and again": {nest(2, "l", "{{ if data.obj.in.y == 2 }}x{{ end }}"), tooMuch},
		"an element of a variable":            {"{{ for x in data.big }}" + nest(2, "l", "{{ if x[0] == 5 }}x{{ end }}") + "{{ end }}", tooMuch},
		"an empty value":                      {nest(4, "l", "{{ data.none | default '' }}"), tooMuch},
	} {
		for _, pos := range []handlers.Position{handlers.Plain, handlers.HTML} {
			t.Run(fmt.Sprint(name, " ", pos), func(t *testing.T) {
				tpl, err := handlers.CompileTemplate(tc.src, pos)
				require.NoError(t, err)
				part := 1
				if testing.Short() && tc.want == tooMuch && name != whole {
					part = 16 // each of them asks for far more
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				started := time.Now()
				_, err = tpl.RenderWithin(e, part)
				took := time.Since(started)
				runtime.ReadMemStats(&after)
				require.ErrorContains(t, err, tc.want)
				require.True(t, event.IsPermanent(err))
				require.Less(t, took, 20*time.Second, "far more than it takes, for a busy machine")
				if name != "conditions with functions" { // which decode
					require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200<<20))
				}
			})
		}
	}
}

// A long list costs what its elements cost.
func TestTemplateLoopsOverLongLists(t *testing.T) {
	e := update("", `{"l": [`+strings.TrimSuffix(strings.Repeat(`{"a": 1, "b": "x"},`, 100_000), ",")+`]}`)
	tpl, err := handlers.CompileTemplate(`{{ for x in data.l }}{{ if x.a == 1 && !loop.last }}{{ x.b }}{{ end }}{{ end }}`, handlers.Plain)
	require.NoError(t, err)
	out, err := tpl.Render(e)
	require.NoError(t, err)
	require.Len(t, out, 99_999)
}

func TestPathologicalTemplatesCompileInTime(t *testing.T) {
	t.Parallel()
	size := 1 << 15
	if testing.Short() {
		size = 1 << 13
	}
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, src := range map[string]string{
		"placeholders":             fill("{{ data.x }}"),
		"blocks on one line":       fill("{{ if data.x }}{{ end }}"),
		"blocks and spaces":        fill("{{ if data.x }}          {{ end }}          "),
		"blocks on lines":          fill("{{ if data.x }}\n{{ end }}\n"),
		"spaces":                   "{{ if data.x }}" + fill(" ") + "",
		"braces":                   fill("{"),
		"closing braces":           fill("}"),
		"quotation marks":          fill(`"`),
		"quotation marks in a tag": "{{ " + fill(`"`)[:size/2],
		"open comments":            fill("<!-- "),
		"open tags":                fill("<a "),
		"angles":                   fill("<"),
		"comments":                 fill("<!-- x -->"),
		"conditional comments":     fill("<!--[if mso]>{{ data.x }}<![endif]-->"),
		"attributes with values":   fill("<a href='{{ data.x }}' title={{ data.x }}>"),
		"a script":                 "<script>" + fill("</ {{ data.x }};")[:size/2] + "</script>",
		"brackets":                 fill("["),
		"JSON strings with blocks": "[" + fill(`"{{ if data.x }}a{{ end }}",`)[:size/2],
		"a path":                   "{{ data" + strings.Repeat(".a", size/4) + " }}",
		"a condition":              "{{ if " + strings.Repeat("!", size/2) + "data.x }}{{ end }}",
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			for _, pos := range []handlers.Position{handlers.Plain, handlers.JSONBody, handlers.HTML} {
				if _, err := handlers.CompileTemplate(src, pos); err != nil {
					_ = err.Error()
				}
			}
			require.Less(t, time.Since(started), 20*time.Second, "far more than it takes, for a busy machine")
		})
	}
	_, err := handlers.CompileTemplate(strings.Repeat("x", 1<<20+1), handlers.Plain)
	require.ErrorContains(t, err, "longer than")
}

func TestTemplateIsUsedByManyAtOnce(t *testing.T) {
	tpl, err := handlers.CompileTemplate(`{{ for i in data.items }}<a href="/{{ i.sku }}">{{ if length(i.sizes) > 1 }}{{ loop.index }}{{ end }}</a>{{ end }}`, handlers.HTML)
	require.NoError(t, err)
	e := update("", rowForBlocks)
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			for range 100 {
				out, err := tpl.Render(e)
				require.NoError(t, err)
				require.Equal(t, `<a href="/x">1</a><a href="/y"></a>`, string(out))
			}
		})
	}
}

func TestRenderedTextInJSONIsValidWithBlocks(t *testing.T) {
	out, err := renderBlocks(t, handlers.JSONBody, `{"text": "{{ for i in data.items }}{{ i }}{{ if !loop.last }}\n{{ end }}{{ end }}", "evil": "{{ for x in data.evil }}{{ x }}{{ end }}"}`)
	require.NoError(t, err)
	var got map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, "{{ data.id }}{{ end }}<b>\"&a\r\nb", got["evil"])
}
