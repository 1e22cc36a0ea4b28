package handlers

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

const secretInRow = "s3cret-of-the-row"

// oddValues are JSON that something, somewhere takes amiss.
var oddValues = []string{
	`null`, `true`, `false`, `0`, `-0`, `-0.000`, `10.50`, `1e400`, `-1E-400`, `12345678901234567890123456789012345678901234567890.10`, strings.Repeat("9", 2000),
	`""`, `" "`, `"\u0000"`, `"a\u0000b"`, `"\ud800"`, `"\udfff\ud800"`, `"\ud83d\ude00"`, "\"\xff\xfe\"", "\"\u2028\u2029\u0085\"", `"\u202e\ufeff"`, `"\u001b[31m"`,
	`"\r\nX-Evil: 1"`, `"a\nb"`, `"\t"`, `"\u007f"`, `"\""`, `"\\"`, `"\\\""`, `"x\",\"admin\":true,\"y\":\""`, `"}]"`, `"'"`, "\"`\"",
	`"{{ data.secret }}"`, `"{{ if data.secret }}{{ data.secret }}{{ end }}"`, `"{{# $.Value 0 }}"`, `"{{"`, `"}}"`, `"{"`, `"${secret}"`,
	`".."`, `"."`, `"../.."`, `"..\\.."`, `"%2e%2e"`, `"..;"`, `"/"`, `"//evil.example"`, `"@evil.example"`, `":80"`, `"?q"`, `"#f"`, `"https://evil.example"`,
	`"<!channel>"`, `"<@U1> & &amp; <https://evil.example|x>"`, `"</script><script>"`, `"--><b>"`, `"javascript:alert(1)"`, `"\" onload=\"x"`, `"<![endif]-->"`,
	`"*"`, `"a*"`, `"?"`, `"[a-z]"`, `"[^a]"`, `"\\*"`, `"]"`, `"a-b^c"`,
	`[]`, `{}`, `[ ]`, `[null]`, `["<a>", "b"]`, `{"a": 1, "a": {"b": "{{ data.secret }}"}}`, `{"": "", "\"": "\u0000"}`, `{"a.b": {"0": 1}}`,
	strings.Repeat("[", 500) + strings.Repeat("]", 500), strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500),
}

func oddValue(t *rapid.T, name string) string {
	if rapid.Bool().Draw(t, name+" is listed") {
		return rapid.SampledFrom(oddValues).Draw(t, name)
	}
	b, err := json.Marshal(rapid.StringOf(rapid.RuneFrom([]rune("ab<>&\"'\\/.{}\x00\r\n*?[]^-é\u2028😀 "))).Draw(t, name))
	require.NoError(t, err)
	return string(b)
}

// oddEvent is an event with a row of any content.
func oddEvent(t *rapid.T) *event.Event {
	v, w := oddValue(t, "v"), oddValue(t, "w")
	row := fmt.Sprintf(` {"secret": %q, "v": "hidden", "w" : %s , "l": [%s, %s, null], "v": %s}`, secretInRow, w, v, w, v)
	return &event.Event{ID: "x", Type: event.Insert, Entity: "Order", EntityID: event.Text(v), Data: json.RawMessage(row), Source: event.Text(w)}
}

func compiled(t require.TestingT, src string, pos Position) *Template {
	tpl, err := CompileTemplate(src, pos)
	require.NoError(t, err, src)
	return tpl
}

func TestAnyRowGivesTheJSONThatTheTemplateSays(t *testing.T) {
	tpl := compiled(t, `{"a": {{ data.v }}, "b": "{{ data.w }} and {{ data.v }}", "c": "{{ for x in data.l }}{{ x }}{{ if x == 'a' }}!{{ else if loop.last }}.{{ end }}{{ end }}",
		"d": [{{ data.v | default "none" }}, {"e": {{ data.l }}}], "id": "{{ event.entity_id }}", "source": {{ event.source }}}`, JSONBody)
	rapid.Check(t, func(t *rapid.T) {
		e := oddEvent(t)
		out, err := tpl.Render(e)
		require.NoError(t, err)
		require.True(t, json.Valid(out), "%s", out)
		require.True(t, utf8.Valid(out), "%q", out)
		var keys []string
		doc := gjson.ParseBytes(out)
		doc.ForEach(func(key, _ gjson.Result) bool {
			keys = append(keys, key.String())
			return true
		})
		require.Equal(t, []string{"a", "b", "c", "d", "id", "source"}, keys)
		require.Len(t, doc.Get("d").Array(), 2)
		raw, _ := e.Raw("data", "v")
		require.Equal(t, strings.ToValidUTF8(raw, "\ufffd"), doc.Get("a").Raw, "every digit stays")
		require.NotContains(t, string(out), secretInRow)
	})
}

func TestAnyRowGivesOneHeader(t *testing.T) {
	tpl := compiled(t, "a {{ data.v }}{{ data.w }}", Header)
	rapid.Check(t, func(t *rapid.T) {
		out, err := tpl.Render(oddEvent(t))
		if err != nil {
			require.ErrorIs(t, err, errControl)
			return
		}
		require.False(t, strings.ContainsAny(string(out), "\r\n\x00"), "%q", out)
		require.NotContains(t, string(out), secretInRow)
	})
}

func TestAnyRowGivesAnAddressOnTheSameHost(t *testing.T) {
	for _, src := range []string{
		"https://user:pw@example.com:8443/a/{{ data.v }}/b/{{ data.w }}?q={{ data.v }}&r={{ data.w }}",
		"https://example.com/{{ data.v }}{{ data.w }}", "http://example.com/?{{ data.v }}", "https://example.com/.{{ data.v }}/x",
		"https://example.com/a?q=1#{{ data.v }}",
	} {
		fixed, err := parseTarget(src)
		require.NoError(t, err)
		rapid.Check(t, func(t *rapid.T) {
			u, err := fixed.of(oddEvent(t))
			if err != nil {
				require.True(t, event.IsPermanent(err))
				return
			}
			require.Equal(t, fixed.fixed.Scheme, u.Scheme)
			require.Equal(t, fixed.fixed.Host, u.Host)
			require.Equal(t, fixed.fixed.User, u.User)
			require.Equal(t, strings.Count(fixed.fixed.Path, "/"), strings.Count(u.EscapedPath(), "/"), "%s", u)
			for segment := range strings.SplitSeq(u.Path, "/") {
				require.NotContains(t, []string{".", ".."}, segment, "%s", u)
			}
			again, err := url.Parse(u.String())
			require.NoError(t, err)
			require.Equal(t, u.Host, again.Host)
			require.Equal(t, strings.Count(src, "&"), strings.Count(again.RawQuery, "&"))
			require.NotContains(t, u.String(), secretInRow)
		})
	}
}

func TestAnyRowIsPlainTextInSlack(t *testing.T) {
	tpl := compiled(t, "{{ data.v }}{{ for x in data.l }}{{ x }}{{ end }}", Slack)
	rapid.Check(t, func(t *rapid.T) {
		out, err := tpl.Render(oddEvent(t))
		require.NoError(t, err)
		require.False(t, strings.ContainsAny(string(out), "<>"), "%s", out)
		require.NotContains(t, strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(string(out)), "&")
		require.NotContains(t, string(out), secretInRow)
	})
}

func TestAnyRowIsOneLineInASubject(t *testing.T) {
	tpl := compiled(t, "{{ data.v }} {{ data.w }}", Subject)
	rapid.Check(t, func(t *rapid.T) {
		out, err := tpl.Render(oddEvent(t))
		require.NoError(t, err)
		require.False(t, strings.ContainsAny(string(out), "\r\n\x00\u0085"), "%q", out)
	})
}

func TestAnyRowIsRenderedOnce(t *testing.T) {
	tpl := compiled(t, "{{ data.v }}|{{ data.w | default 'none' }}", Plain)
	rapid.Check(t, func(t *rapid.T) {
		e := oddEvent(t)
		out, err := tpl.Render(e)
		require.NoError(t, err)
		v, _ := e.Raw("data", "v")
		w, _ := e.Raw("data", "w")
		if w == "null" {
			w = `"none"`
		}
		require.Equal(t, text(v)+"|"+text(w), string(out))
	})
}

// The key that a pattern is made for is the only one that it matches.
func TestAnyRowIsTakenLiterallyInAKey(t *testing.T) {
	tpl := compiled(t, "k:{{ data.v }}:{{ data.w }}", KeyPattern)
	rapid.Check(t, func(t *rapid.T) {
		e := oddEvent(t)
		v, _ := e.Raw("data", "v")
		w, _ := e.Raw("data", "w")
		out, err := tpl.Render(e)
		if text(v) == "" || text(w) == "" {
			require.ErrorIs(t, err, errEmpty)
			return
		}
		require.NoError(t, err)
		key := "k:" + text(v) + ":" + text(w)
		require.True(t, glob(string(out), key), "%q", out)
		other := rapid.OneOf(rapid.Just(key+"x"), rapid.Just(strings.Replace(key, "a", "b", 1)), rapid.Just(key[:len(key)-1]), rapid.String()).Draw(t, "other")
		require.Equal(t, other == key, glob(string(out), other), "%q %q", out, other)
	})
}

// glob is how Redis matches (stringmatchlen in its util.c).
func glob(pattern, s string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for i := range len(s) + 1 {
				if glob(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case '[':
			set := regexp.MustCompile(`^\[\^?(?:\\.|[^\\\]])*\]?`).FindString(pattern)
			if s == "" || !regexp.MustCompile(`^(?s:`+set+`)$`).MatchString(s[:1]) {
				return false
			}
			pattern = pattern[len(set)-1:]
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			fallthrough
		default:
			if s == "" || pattern[0] != s[0] && pattern[0] != '?' {
				return false
			}
			if pattern[0] == '?' && s[0] != '?' {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}

func TestAnyRowIsNoMarkup(t *testing.T) {
	const src = `<!DOCTYPE html><title>{{ data.v }}</title><style>p { color: {{ data.v }} }</style><p title="{{ data.v }}" class='{{ data.w }}' lang={{ data.v }} id=x>{{ data.v }}</p>
<a href="{{ data.v }}">x</a><img src="https://x/{{ data.w }}?q={{ data.v }}"><!--[if mso]><b>{{ data.v }}</b><![endif]-->{{ for x in data.l }}<i>{{ x }}</i>{{ end }}
<script>f({{ data.v }}, "{{ data.w }}", {{ data.l }})</script>`
	tpl := compiled(t, src, HTML)
	plain, err := tpl.Render(&event.Event{Data: json.RawMessage(`{"v": "x", "w": "x", "l": [1, 2, 3]}`)})
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		out, err := tpl.Render(oddEvent(t))
		require.NoError(t, err)
		for _, mark := range []string{"<", ">", "-->", "</script", "</title"} {
			require.Equal(t, strings.Count(string(plain), mark), strings.Count(string(out), mark), "%s in %s", mark, out)
		}
		require.NotContains(t, strings.ToLower(string(out)), `ref="javascript:`)
		require.NotContains(t, string(out), secretInRow)
	})
}

// A condition in a loop answers what JMESPath answers over the event and the loop's variables.
func TestConditionsInLoopsAgreeWithJMESPath(t *testing.T) {
	for _, expr := range []string{
		"x == data.v", "x != 'a' && loop.index > 1", "!x.a || loop.last == `true`", "x.a.b == data.w", "loop.first", "data.l == x", "x", "event.source == x", "loop == x",
	} {
		c, err := compileCondition(expr, []string{"x", loopName})
		require.NoError(t, err)
		require.NotNil(t, c.fast, expr)
		slow := *c
		slow.fast = nil
		rapid.Check(t, func(t *rapid.T) {
			e := oddEvent(t)
			r := &renderer{template: &Template{}, event: e, work: maxWork, variables: &variable{name: "x", raw: oddValue(t, "x"), index: 1, outer: &variable{name: "x", raw: "1"}}}
			for range 2 {
				want, err := r.holds(&part{kind: ifPart, when: &slow})
				require.NoError(t, err)
				got, err := r.holds(&part{kind: ifPart, when: c})
				require.NoError(t, err)
				require.Equal(t, want, got, expr)
			}
		})
	}
}
