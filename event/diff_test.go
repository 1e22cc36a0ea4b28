package event_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

// plainDiff is Diff as simple as it can be, with gjson.
func plainDiff(before, after string) string {
	was, is := gjson.Parse(before), gjson.Parse(after)
	if !was.IsObject() || !is.IsObject() {
		return ""
	}
	var changes []string
	change := func(key, old, is string) {
		changes = append(changes, fmt.Sprintf(`%s:{"old":%s,"new":%s}`, key, old, is))
	}
	olds, news := rawFields(was), rawFields(is)
	for i, f := range news {
		if old, had := lookUp(olds, f[0], i); !had {
			change(f[0], "null", f[1])
		} else if old != f[1] {
			change(f[0], old, f[1])
		}
	}
	for i, f := range olds {
		if _, has := lookUp(news, f[0], i); !has {
			change(f[0], f[1], "null")
		}
	}
	return "{" + strings.Join(changes, ",") + "}"
}

func rawFields(object gjson.Result) (list [][2]string) {
	object.ForEach(func(key, value gjson.Result) bool {
		list = append(list, [2]string{key.Raw, value.Raw})
		return true
	})
	return list
}

// lookUp prefers the field at the same place: of a key that is there twice, that is the one to compare with.
func lookUp(list [][2]string, key string, at int) (raw string, ok bool) {
	if at < len(list) && list[at][0] == key {
		return list[at][1], true
	}
	for _, f := range list {
		if f[0] == key {
			return f[1], true
		}
	}
	return "", false
}

func FuzzDiff(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"a": 1, "b": "x"}`, `{"a": 12, "b": "x\""}`},
		{`{"a": {"b": [1, "}"]}}`, `{"a": {"b": [1, "]"]}, "c": null}`},
		{` { } `, `{}`},
		{`[1]`, `{"a":1}`},
		{"{\"a\" :\t1 ,\n\"b\":2}", `{"b": 2, "a": 1}`},
		{`{"a\\": "\\"}`, `{"a\\": "\\\\\""}`},
		{`{"a": 1, "a": 2}`, `{"a": 2, "a": 1}`},
		{`{"a": 1}`, `{"a": 1 }`},
		{`null`, ``},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		got := string(event.Diff(json.RawMessage(before), json.RawMessage(after)))
		if json.Valid([]byte(before)) && json.Valid([]byte(after)) {
			require.Equal(t, plainDiff(before, after), got)
		}
	})
}

func TestDiffOfAnyTwoRowsIsThePlainOne(t *testing.T) {
	fields := func(t *rapid.T, label string) string {
		var list []string
		for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "bb", `c\"`, `d\\`, "é"}), 0, 5).Draw(t, label) {
			value := rapid.SampledFrom([]string{"1", "12", "1.5e3", "null", "true", `""`, `"x"`, `"\\"`, `"\""`, `"}, \"a\": 1"`, `{}`, `{"a": [1, "]"]}`, `[]`, `[{"a": "}"}]`})
			list = append(list, fmt.Sprintf(`"%s"%s%s`, key, rapid.SampledFrom([]string{": ", ":", " : "}).Draw(t, "colon"), value.Draw(t, "value")))
		}
		comma := rapid.SampledFrom([]string{", ", ",", " , "}).Draw(t, "comma")
		return rapid.SampledFrom([]string{"", " "}).Draw(t, "space") + "{" + strings.Join(list, comma) + rapid.SampledFrom([]string{"}", " } "}).Draw(t, "end")
	}
	rapid.Check(t, func(t *rapid.T) {
		before, after := fields(t, "before"), fields(t, "after")
		require.True(t, json.Valid([]byte(before)), before)
		require.Equal(t, plainDiff(before, after), string(event.Diff(json.RawMessage(before), json.RawMessage(after))), "%s %s", before, after)
	})
}

func BenchmarkDiff(b *testing.B) {
	const row = `{"id": 7, "n": 1200, "vat": 2.50, "note": "a \"quoted\" word", "paid": true, "total": 12.50, "status": "%s", "address": {"city": "Lyon", "zip": "69001"}, "customer": "customer 7", "updated_at": "2026-01-31T12:00:00.123456+00:00"}`
	before, after := fmt.Appendf(nil, row, "paid"), fmt.Appendf(nil, row, "shipped")
	b.ReportAllocs()
	for b.Loop() {
		event.Diff(before, after)
	}
}
