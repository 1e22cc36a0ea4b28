package handlers_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

const rowForTemplates = `{"id": 12345678901234567890, "price": 10.50, "name": "Ada \"the\" Löw\n", "path": "a/b?c&d=e", "none": null, "ok": true, "nested": {"deep": {"x": [1, 2]}}, "evil": "x\",\"admin\":true,\"y\":\"", "code": "{{ data.id }}", "crlf": "a\r\nX-Evil: 1", "unit price": 7.00, "tags": "<!channel> &", "star": "*a-[b]\\?^", "empty": ""}`

func TestTemplateEncodesByPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		pos       handlers.Position
		src, want string
	}{
		"a JSON value keeps every digit":  {handlers.JSONBody, `{"id": {{ data.id }}, "p": {{data.price}}}`, `{"id": 12345678901234567890, "p": 10.50}`},
		"text as JSON value":              {handlers.JSONBody, `{{ data.name }}`, `"Ada \"the\" Löw\n"`},
		"text inside JSON text":           {handlers.JSONBody, `{"a": "<{{ data.name }}>"}`, `{"a": "<Ada \"the\" Löw\n>"}`},
		"a number inside JSON text":       {handlers.JSONBody, `"#{{ data.id }}"`, `"#12345678901234567890"`},
		"an object inside JSON text":      {handlers.JSONBody, `"{{ data.nested.deep }}"`, `"{\"x\": [1, 2]}"`},
		"an object":                       {handlers.JSONBody, `[{{ data.nested }}]`, `[{"deep": {"x": [1, 2]}}]`},
		"null as JSON value":              {handlers.JSONBody, `{"a": {{ data.none }}}`, `{"a": null}`},
		"null inside JSON text":           {handlers.JSONBody, `{"a": "{{ data.none }}"}`, `{"a": ""}`},
		"text that looks like JSON":       {handlers.JSONBody, `{"a": "{{ data.evil }}"}`, `{"a": "x\",\"admin\":true,\"y\":\""}`},
		"text that looks like a template": {handlers.JSONBody, `{"a": {{ data.code }}}`, `{"a": "{{ data.id }}"}`},
		"a name in a JSON object":         {handlers.JSONBody, `{"k{{ data.ok }}": 1}`, `{"ktrue": 1}`},
		"a default for a missing field":   {handlers.JSONBody, `{"a": {{ data.nope | default "n/a" }}, "b": {{ data.nope.x | default -1.5 }}}`, `{"a": "n/a", "b": -1.5}`},
		"a default for null":              {handlers.JSONBody, `{{ data.none|default false }}`, `false`},
		"a default that is not needed":    {handlers.JSONBody, `{{ data.ok | default "}}" }}`, `true`},
		"braces behind a placeholder":     {handlers.JSONBody, `{"a":{"b":{{ data.ok }}}}`, `{"a":{"b":true}}`},
		"attributes of the event":         {handlers.JSONBody, `[{{ event.id }}, {{ event.event_type }}, {{ event.seq }}, {{ event.user_id }}]`, `["0198c5a0-0000-7000-8000-000000000001", "UPDATE", 3, null]`},
		"the images through the event":    {handlers.JSONBody, `[{{ event.data.ok }}, {{ before }}, {{ event.changes }}]`, `[true, null, null]`},
		"plain text":                      {handlers.Plain, `{{ data.name }}|{{ data.none }}|{{ data.nested }}|{{ event.entity_type }}`, "Ada \"the\" Löw\n||{\"deep\": {\"x\": [1, 2]}}|Order"},
		"a URL":                           {handlers.URL, `https://x/{{ data.path }}?n={{ data.id }}`, `https://x/a%2Fb%3Fc%26d%3De?n=12345678901234567890`},
		"a form":                          {handlers.Form, `n={{ data.path }}&z={{ data.none }}`, `n=a%2Fb%3Fc%26d%3De&z=`},
		"a header":                        {handlers.Header, `Bearer {{ data.path }}`, `Bearer a/b?c&d=e`},
		"a quoted name and an element":    {handlers.JSONBody, `[{{ data."unit price" }}, {{ data.nested.deep.x[1] }}, "{{ data."ok" }}"]`, `[7.00, 2, "true"]`},
		"a default in single quotes":      {handlers.Plain, `{{ data.nope | default 'it\'s "x"' }}`, `it's "x"`},
		"Slack":                           {handlers.Slack, `*{{ data.tags }}* <{{ data.path }}>`, `*&lt;!channel&gt; &amp;* <a/b?c&amp;d=e>`},
		"a subject":                       {handlers.Subject, "Re: {{ data.crlf }}\n{{ data.id }}", "Re: a  X-Evil: 1 12345678901234567890"},
		"a key":                           {handlers.KeyPattern, `order:{{ data.star }}:*`, `order:\*a\-\[b\]\\\?\^:*`},
		"a tab in a header":               {handlers.Header, "a\t{{ data.ok }}", "a\ttrue"},
		"no placeholder":                  {handlers.JSONBody, ` {"a": 1e999} `, ` {"a": 1e999} `},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := handlers.CompileTemplate(tc.src, tc.pos)
			require.NoError(t, err)
			got, err := tpl.Render(update("", rowForTemplates))
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

func TestTemplateRenderErrorsArePermanent(t *testing.T) {
	for name, tc := range map[string]struct {
		pos       handlers.Position
		src, want string
	}{
		"a missing field":         {handlers.Plain, `{{ data.customer.email }}`, "render data.customer.email: no such field"},
		"a field of what is none": {handlers.JSONBody, `{{ before.status }}`, "render before.status: no such field"},
		"a line end in a header":  {handlers.Header, `{{ data.crlf }}`, "render data.crlf: a header cannot hold control characters"},
		"null in a key":           {handlers.KeyPattern, `x:{{ data.none }}*`, "render data.none: null or empty text in a key would reach other keys"},
		"empty text in a key":     {handlers.KeyPattern, `x:{{ data.empty }}*`, "render data.empty: null or empty text in a key"},
		"null in a URL":           {handlers.URL, `https://x/{{ data.none }}`, "render data.none: null in a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := handlers.CompileTemplate(tc.src, tc.pos)
			require.NoError(t, err)
			_, err = tpl.Render(update("", rowForTemplates))
			require.ErrorContains(t, err, tc.want)
			require.True(t, event.IsPermanent(err))
			require.Equal(t, "template", event.Class(err))
		})
	}
}

func TestTemplateOutputIsBounded(t *testing.T) {
	large := update("", `{"x": "`+strings.Repeat("x", 5<<20)+`"}`)
	once, err := handlers.CompileTemplate(`{{ event.data }}`, handlers.JSONBody)
	require.NoError(t, err)
	b, err := once.Render(large)
	require.NoError(t, err, "a large row passes")
	require.Len(t, b, len(large.Data))
	often, err := handlers.CompileTemplate(strings.Repeat(`{{ data.x }}`, 3), handlers.Plain)
	require.NoError(t, err)
	_, err = often.Render(large)
	require.ErrorContains(t, err, "longer than")
	require.True(t, event.IsPermanent(err))
}

func TestTemplateSyntaxErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		src, want    string
		line, column int
	}{
		"no end":                     {"{\n\"a\": {{ data.x }", "this {{ has no }}", 2, 6},
		"no root":                    {`{"a": {{ dta.x }}}`, "dta is none of event, data, before, changes", 1, 10},
		"an unknown attribute":       {`{{ event.name }}`, "an event has no name (it has id, ", 1, 10},
		"a dot in front":             {`{{ .data.x }}`, "not a placeholder", 1, 4},
		"a statement":                {`{{ with data.x }}`, "not a placeholder", 1, 4},
		"nothing":                    {`{{ }}`, "not a placeholder", 1, 4},
		"a default that is none":     {`{{ data.x | default n/a }}`, "a default is text between quotation marks", 1, 21},
		"an unknown function":        {`{{ data.x | upper }}`, "only default stands behind |", 1, 11},
		"a body that is no JSON":     {"{\"a\": 1,\n \"b\": {{ data.x }},}", "not JSON", 2, 20},
		"two values side by side":    {`{"a": {{ data.x }}{{ data.y }}}`, "not JSON", 1, 19},
		"a value glued to a number":  {`{"a": 1{{ data.x }}}`, "not JSON", 1, 8},
		"a value as name":            {`{ {{ data.x }}: 1}`, "not JSON", 1, 3},
		"half an escape":             {`"\{{ data.x }}"`, "not JSON", 1, 3},
		"half a Unicode escape":      {`"\u00{{ data.x }}"`, "not JSON", 1, 6},
		"a string that does not end": {`{"a": "{{ data.x }}}`, "not JSON", 1, 21},
		"an empty body":              {` `, "not JSON", 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.CompileTemplate(tc.src, handlers.JSONBody)
			var wrong *handlers.SyntaxError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, tc.want)
			line, column := wrong.Position()
			require.Equal(t, [2]int{tc.line, tc.column}, [2]int{line, column}, wrong.Caret())
		})
	}
}

// Whatever a row holds, rendered JSON is valid, has the structure that the author wrote, and holds the row's values.
func TestRenderedJSONIsAlwaysValid(t *testing.T) {
	tpl, err := handlers.CompileTemplate(`{"v": {{ data.v }}, "s": "<{{ data.v }}>", "k {{ data.v }}": [{{ data.v | default "x" }}], "raw": {{ event.data }}}`, handlers.JSONBody)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		v := jsonValue(t, 2)
		e := update("", `{"v": `+v+`}`)
		out, err := tpl.Render(e)
		require.NoError(t, err)
		var got map[string]any
		require.NoError(t, json.Unmarshal(out, &got), "%s", out)
		require.Len(t, got, 4)
		var want any
		require.NoError(t, json.Unmarshal([]byte(v), &want))
		require.Equal(t, want, got["v"])
		if text, ok := want.(string); ok {
			require.Equal(t, "<"+text+">", got["s"])
		}
	})
}

func TestRenderedURLKeepsItsParts(t *testing.T) {
	tpl, err := handlers.CompileTemplate(`https://example.com/a/{{ data.v }}/b?q={{ data.v }}&r=1`, handlers.URL)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.String().Draw(t, "v")
		raw, err := json.Marshal(map[string]string{"v": v})
		require.NoError(t, err)
		out, err := tpl.Render(update("", string(raw)))
		require.NoError(t, err)
		u, err := url.Parse(string(out))
		require.NoError(t, err)
		require.Equal(t, "example.com", u.Host)
		require.Equal(t, "/a/"+v+"/b", u.Path)
		require.Equal(t, url.Values{"q": {v}, "r": {"1"}}, u.Query())
	})
}

func BenchmarkTemplate(b *testing.B) {
	tpl, err := handlers.CompileTemplate(`{"id": {{ data.id }}, "who": "{{ data.customer.name }} <{{ data.customer.email }}>", "total": {{ data.total }}, "status": "{{ data.status }}", "at": {{ event.timestamp }}, "note": {{ data.note | default "none" }}}`, handlers.JSONBody)
	require.NoError(b, err)
	e := update("", `{"id": 12345678901234567890, "status": "shipped", "total": 1500.50, "note": null, "customer": {"email": "ada@example.com", "name": "Ada Löw"}, "items": [{"sku": "x", "price": 3}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tpl.Render(e); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, src := range []string{
		`{"a": "{{ data.x | default "}}" }}", "b": {{ event.id }}}`, "{{ data.x | default `\\` }}", "{{", `{{ data."a b"[0] | default 'it\'s' }}`,
		`["{{ for x in data.items }}{{ if x.n > 1 && !loop.last }}{{ x.n }}{{ else if x }}\\n{{ else }}{{ loop.index }}{{ end }}{{ end }}"]`,
		"{{ if data.ok }}\r\n <a href='{{ data.path }}' {{ if before }}b{{ end }}>\n{{ end }}", "<!--[if mso]>{{ data.name }}<![endif]--><script>{{ data.id }}</script><!-- x -->",
	} {
		f.Add(src, rowForTemplates)
	}
	f.Add(`{{ for x in data }}{{ x }}{{ end }}`, `[1, "\ud800"]`)
	f.Fuzz(func(t *testing.T, src, row string) {
		e := update(was, row)
		if !json.Valid([]byte(row)) {
			e = update("", rowForTemplates)
		}
		for pos := handlers.Plain; pos <= handlers.KeyPattern; pos++ {
			tpl, err := handlers.CompileTemplate(src, pos)
			if err != nil {
				var wrong *handlers.SyntaxError
				if !errors.As(err, &wrong) {
					t.Fatalf("%T: %v", err, err)
				}
				_ = wrong.Error() + wrong.Caret()
				continue
			}
			out, err := tpl.Render(e)
			switch {
			case err != nil:
				if !event.IsPermanent(err) {
					t.Fatalf("%q: %v", src, err)
				}
			case pos == handlers.JSONBody && !json.Valid(out):
				t.Fatalf("%q gives %q", src, out)
			case pos == handlers.Header && strings.ContainsAny(string(out), "\r\n\x00"):
				t.Fatalf("%q gives %q", src, out)
			}
		}
	})
}

func jsonValue(t *rapid.T, depth int) string {
	switch form := rapid.IntRange(0, 6).Draw(t, "form"); {
	case form == 0:
		return rapid.SampledFrom([]string{"null", "true", "false", "0", "-1.50", "1e3", `"\ud800"`, `"{{ data.x }}"`, `"\\"`}).Draw(t, "value")
	case form == 1 && depth > 0:
		return "[" + jsonValue(t, depth-1) + ", " + jsonValue(t, depth-1) + "]"
	case form == 2 && depth > 0:
		return `{"a": ` + jsonValue(t, depth-1) + "}"
	default:
		b, err := json.Marshal(rapid.String().Draw(t, "text"))
		require.NoError(t, err)
		return string(b)
	}
}
