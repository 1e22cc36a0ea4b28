package event

import (
	"encoding/json"

	"github.com/tidwall/gjson"
)

type field struct{ key, raw string }

// Diff returns {field: {"old", "new"}} for the fields of two row images that are not the same text, nil when either is no
// JSON object. Both are expected as Postgres prints jsonb, so equal values are equal text.
func Diff(before, after json.RawMessage) json.RawMessage {
	was, ok := fields(before)
	is, ok2 := fields(after)
	if !ok || !ok2 {
		return nil
	}
	b := append(make([]byte, 0, 128), '{')
	for i, f := range is {
		if old := find(was, f.key, i); old != f.raw {
			b = appendChange(b, f.key, old, f.raw)
		}
	}
	for i, f := range was {
		if find(is, f.key, i) == "" {
			b = appendChange(b, f.key, f.raw, "")
		}
	}
	return append(b, '}')
}

func fields(raw json.RawMessage) ([]field, bool) {
	doc := gjson.ParseBytes(raw)
	if !doc.IsObject() {
		return nil, false
	}
	list := make([]field, 0, 16)
	doc.ForEach(func(key, value gjson.Result) bool {
		list = append(list, field{key.Raw, value.Raw})
		return true
	})
	return list, true
}

// find looks at the same place first: two images of one table have the same keys in the same order.
func find(list []field, key string, at int) string {
	if at < len(list) && list[at].key == key {
		return list[at].raw
	}
	for _, f := range list {
		if f.key == key {
			return f.raw
		}
	}
	return ""
}

func appendChange(b []byte, key, old, is string) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(append(b, key...), `:{"old":`...)
	b = appendOrNull(b, old)
	b = append(b, `,"new":`...)
	b = appendOrNull(b, is)
	return append(b, '}')
}

func appendOrNull(b []byte, raw string) []byte {
	if raw == "" {
		return append(b, "null"...)
	}
	return append(b, raw...)
}
