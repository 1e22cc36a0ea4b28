package handlers_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

const rowForHTML = `{"id": 12345678901234567890, "name": "<script>alert(\"x\")</script>", "quotes": "\"'` + "`" + `", "url": "https://example.com/a?b=1&c=\"", "js": "javascript:alert(1)",
	"data": "data:text/html,x", "css": "red; background: url(x)", "end": "</script></style>--></title>", "cmt": "--> <b> <![endif]--> --!>", "none": null, "ok": true, "price": 10.50,
	"obj": {"a": [1, "</script>"], "n": 9007199254740993}, "list": ["<a>", "b&c"], "color": "#ff0000", "space": "a b=c onload=x", "tel": "tel:1", "code": "{{ data.id }}"}`

func TestHTMLTemplateEncodesByPlace(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"text":                                  {`<p>{{ data.name }}</p>`, `<p>&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;</p>`},
		"numbers keep their digits":             {`{{ data.id }} {{ data.price }} {{ data.ok }}`, `12345678901234567890 10.50 true`},
		"null":                                  {`<p>{{ data.none }}</p>`, `<p></p>`},
		"a default":                             {`<p>{{ data.none | default "<b>" }}</p>`, `<p>&lt;b&gt;</p>`},
		"an object":                             {`<p>{{ data.list }}</p>`, `<p>[&#34;&lt;a&gt;&#34;, &#34;b&amp;c&#34;]</p>`},
		"an attribute":                          {`<p title="{{ data.quotes }}">`, "<p title=\"&#34;&#39;`\">"},
		"an attribute in single quotes":         {`<p title='{{ data.quotes }}'>`, "<p title='&#34;&#39;`'>"},
		"an attribute without quotes":           {`<p title={{ data.space }}>`, `<p title=a&#32;b&#61;c&#32;onload&#61;x>`},
		"a link":                                {`<a href="{{ data.url }}">`, `<a href="https://example.com/a?b=1&amp;c=%22">`},
		"part of a path":                        {`<a href="https://x/{{ data.name }}/y">`, `<a href="https://x/%3cscript%3ealert%28%22x%22%29%3c/script%3e/y">`},
		"part of a query":                       {`<a href="https://x/?q={{ data.url }}">`, `<a href="https://x/?q=https%3a%2f%2fexample.com%2fa%3fb%3d1%26c%3d%22">`},
		"a script as link":                      {`<a href="{{ data.js }}">`, `<a href="#ZgotmplZ">`},
		"a document as link":                    {`<a href="{{ data.data }}">`, `<a href="#ZgotmplZ">`},
		"a script as link without quotes":       {`<a href={{ data.js }}>`, `<a href=#ZgotmplZ>`},
		"a script as image":                     {`<img src="{{ data.js }}">`, `<img src="#ZgotmplZ">`},
		"a value of a script":                   {`<script>x = {{ data.name }};</script>`, `<script>x = "\u003cscript\u003ealert(\"x\")\u003c/script\u003e";</script>`},
		"values of a script are values":         {`<script>f({{ data.id }}, {{ data.obj }}, {{ data.none }}, {{ data.ok }})</script>`, `<script>f( 12345678901234567890 , {"a":[1,"\u003c/script\u003e"],"n":9007199254740993},  null ,  true )</script>`},
		"text of a script":                      {`<script>x = "{{ data.end }}"</script>`, `<script>x = "\u003c\/script\u003e\u003c\/style\u003e--\u003e\u003c\/title\u003e"</script>`},
		"data for search engines":               {`<script type="application/ld+json">{"price": {{ data.price }}, "name": "{{ data.quotes }}"}</script>`, "<script type=\"application/ld+json\">{\"price\":  10.50 , \"name\": \"\\u0022\\u0027\\u0060\"}</script>"},
		"a handler":                             {`<a onclick="f({{ data.quotes }})">`, "<a onclick=\"f(&#34;\\&#34;&#39;`&#34;)\">"},
		"a style":                               {`<style>p { color: {{ data.color }} }</style>`, `<style>p { color: #ff0000 }</style>`},
		"a style that is none":                  {`<p style="color: {{ data.css }}">`, `<p style="color: ZgotmplZ">`},
		"a title":                               {`<title>{{ data.end }}</title>`, `<title>&lt;/script&gt;&lt;/style&gt;--&gt;&lt;/title&gt;</title>`},
		"the name of an attribute":              {`<p {{ data.color }}="x">`, `<p ZgotmplZ="x">`},
		"a row that looks like a template":      {`<p>{{ data.code }}</p>`, `<p>{{ data.id }}</p>`},
		"a loop":                                {`<ul>{{ for x in data.list }}<li class="{{ if loop.first }}first{{ end }}">{{ loop.index }} {{ x }}</li>{{ end }}</ul>`, `<ul><li class="first">1 &lt;a&gt;</li><li class="">2 b&amp;c</li></ul>`},
		"a table on lines":                      {"<table>\n  {{ for x in data.list }}\n  <tr><td>{{ x }}</td></tr>\n  {{ end }}\n</table>", "<table>\n  <tr><td>&lt;a&gt;</td></tr>\n  <tr><td>b&amp;c</td></tr>\n</table>"},
		"an if around an attribute":             {`<td {{ if data.ok }}align="right"{{ end }}>x</td>`, `<td align="right">x</td>`},
		"a comment":                             {`a<!-- b <c> "' -->d{{ data.ok }}`, `a<!-- b <c> "' -->dtrue`},
		"a comment behind a brace":              {`{<!-- a -->{ {{ data.ok }}`, `{<!-- a -->{ true`},
		"a comment in a block":                  {`{{ if data.ok }}<!-- a -->{{ else }}<!-- b -->{{ end }}`, `<!-- a -->`},
		"a comment with a value is left":        {`a<!-- {{ data.cmt }} <b> -->d<!-- e -->`, `ad<!-- e -->`},
		"a conditional comment":                 {`<!--[if mso]><table><tr><td><![endif]-->{{ data.ok }}<!--[if mso]></td></tr></table><![endif]-->`, `<!--[if mso]><table><tr><td><![endif]-->true<!--[if mso]></td></tr></table><![endif]-->`},
		"one with a value":                      {`<!--[if (gte mso 9)|(IE)]><v:rect href="{{ data.js }}">{{ data.cmt }}</v:rect><![endif]-->x`, `<!--[if (gte mso 9)|(IE)]><v:rect href="#ZgotmplZ">--&gt; &lt;b&gt; &lt;![endif]--&gt; --!&gt;</v:rect><![endif]-->x`},
		"one with a block in a tag":             {`<!--[if mso]><td {{ if data.ok }}a="b"{{ end }}>{{ data.ok }} ></td><![endif]--><p lang={{ data.ok }}>`, `<!--[if mso]><td a="b">true ></td><![endif]--><p lang=true>`},
		"one that others read":                  {`<!--[if !mso]><!-->{{ data.ok }}<!--<![endif]-->`, `<!--[if !mso]><!-->true<!--<![endif]-->`},
		"one that is a declaration":             {`<![if !mso]>{{ data.ok }}<![endif]>`, `<![if !mso]>true<![endif]>`},
		"the type of the document":              {"<!DOCTYPE html>\n<html>{{ data.ok }}</html>", "<!DOCTYPE html>\n<html>true</html>"},
		"angles that begin nothing":             {`1 < 2 <3 {{ data.ok }} <> </ >`, `1 &lt; 2 &lt;3 true &lt;> &lt;/ >`},
		"what looks like a comment in a script": {`<script>x = "<!-- a -->";</script>{{ data.ok }}`, `<script>x = "\x3C!-- a -->";</script>true`},
		"an attribute that holds a comment":     {`<p title="<!-- a -->">{{ data.ok }}`, `<p title="<!-- a -->">true`},
		"a style that holds a comment":          {"<style><!-- p { color: red } --></style>{{ data.ok }}", "<style><!-- p { color: red } --></style>true"},
		"no placeholder":                        {`<b>x</b>`, `<b>x</b>`},
		"nothing":                               {``, ``},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := handlers.CompileTemplate(tc.src, handlers.HTML)
			require.NoError(t, err)
			got, err := tpl.Render(update("", rowForHTML))
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

func TestHTMLTemplateErrorsSayWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		src, want    string
		line, column int
	}{
		"a tag without end":                  {"<p>a</p>\n<a href={{ data.x }} ", "this has no end (end each tag, quoted value, comment, style and script)", 2, 1},
		"a value without end":                {"<p>{{ data.x }}</p>\n <a href=\"{{ data.x }}>b</a>", "this has no end", 2, 2},
		"a script without end":               {"<p>\n<script>x = {{ data.x }}", "this has no end", 2, 1},
		"a style without end":                {"<style>\np { color: {{ data.x }} }", "this has no end", 1, 1},
		"a comment without end":              {"a\nb <!-- {{ data.x }}", "this has no end", 2, 3},
		"a quotation mark too much":          {"<p>x</p>\n<a href={{ data.x }}'y>", "not HTML: this tag has a quotation mark, = or < where none can be", 2, 21},
		"an attribute without a name":        {"<p>{{ data.x }}</p>\n<p>\n <a ='x'>{{ data.x }}", "not HTML: this tag", 3, 2},
		"a branch that opens a tag":          {"<p>\n {{ if data.x }}<a href='x'{{ end }}>", "what a block holds must end where it begins", 2, 2},
		"a branch that opens a script":       {"{{ if data.x }}<script>{{ end }}x</script>", "begin and end each of them in the same branch", 1, 1},
		"branches that end elsewhere":        {"<a {{ if data.x }}href=\"{{ else }}title=\"{{ end }}x\">", "what a block holds must end where it begins", 1, 4},
		"a loop that opens a tag":            {"<p>\n{{ for x in data.x }}<style>{{ end }}>", "must end where it begins", 2, 1},
		"a URL of which a part is unsure":    {"<a href=\"{{ if data.x }}/a?b={{ else }}/a/{{ end }}{{ data.x }}\">", "it is not clear which part of a URL this is", 1, 52},
		"an unsure slash":                    {"<p>a</p>\n<script>{{ if data.x }}a{{ end }} / {{ data.x }}</script>", "it is not clear whether this /", 2, 34},
		"a value in a regular expression":    {"<script>x = /[{{ data.x }}]/</script>", "a placeholder cannot stand in []", 1, 1},
		"what may end a conditional comment": {"<!--[if mso]>\n<p lang={{ data.x }}>a</p><![endif]-->", "this may end the conditional comment around it (put the value between", 2, 21},
		"the same behind a block":            {"<!--[if mso]><p a={{ if data.x }}{{ data.x }}{{ else }}a{{ end }}-!></p><![endif]-->", "may end the conditional comment", 1, 66},
		"an error of ours":                   {"<p>\n{{ dta.x }}</p>", "dta is none of", 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handlers.CompileTemplate(tc.src, handlers.HTML)
			var wrong *handlers.SyntaxError
			require.ErrorAs(t, err, &wrong)
			require.ErrorContains(t, err, tc.want)
			line, column := wrong.Position()
			require.Equal(t, [2]int{tc.line, tc.column}, [2]int{line, column}, wrong.Caret())
		})
	}
}

func TestHTMLTemplateRenderErrors(t *testing.T) {
	for src, want := range map[string]string{
		"<p>{{ data.nope }}</p>":                                     "render data.nope: no such field",
		"<p>{{ for x in data.list }}{{ x.y }}{{ end }}</p>":          "render x.y: no such field",
		"<p>{{ for x in data.nope }}{{ end }}</p>":                   "render data.nope: no such field in this event (put",
		"<p>{{ if abs(data.name) > 1 }}x{{ end }}{{ data.ok }}":      "render if in line 1, column 4: evaluate condition: abs got string",
		"{{ for x in data.list }}{{ for y in x }}{{ end }}{{ end }}": "render x: this is no list",
	} {
		tpl, err := handlers.CompileTemplate(src, handlers.HTML)
		require.NoError(t, err, src)
		for range 2 {
			_, err = tpl.Render(update("", rowForHTML))
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "html/template")
			require.True(t, event.IsPermanent(err))
			require.Equal(t, "template", event.Class(err))
		}
	}
}

func TestHTMLOutputIsBounded(t *testing.T) {
	tpl, err := handlers.CompileTemplate(`<p title="{{ data.x }}">{{ data.x }}</p>`, handlers.HTML)
	require.NoError(t, err)
	_, err = tpl.Render(update("", `{"x": "`+strings.Repeat("<", 1<<20)+`"}`))
	require.ErrorContains(t, err, "its text is longer than")
	out, err := tpl.Render(update("", `{"x": "`+strings.Repeat("x", 1<<19)+`"}`))
	require.NoError(t, err)
	require.Greater(t, len(out), 1<<20)
}
