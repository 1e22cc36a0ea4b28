package event

import (
	"encoding/json"
	"sync"

	"github.com/tidwall/gjson"
)

type field struct{ key, raw string }

// Diff returns {field: {"old", "new"}} for the fields of two row images that are not the same text, nil when either is no
// JSON object. Both are expected as Postgres prints jsonb, so equal values are equal text.
func Diff(before, after json.RawMessage) json.RawMessage {
	lists, _ := scratch.Get().(*[2][]field)
	defer release(lists)
	was, ok := fields(lists[0], before)
	is, ok2 := fields(lists[1], after)
	lists[0], lists[1] = was, is
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

// scratch keeps the lists of one Diff for the next.
var scratch = sync.Pool{New: func() any { return new([2][]field) }}

// release forgets the text of the images.
func release(lists *[2][]field) {
	for i, list := range lists {
		clear(list)
		lists[i] = list[:0]
	}
	scratch.Put(lists)
}

func fields(list []field, raw json.RawMessage) ([]field, bool) {
	doc := gjson.Parse(textOf(raw))
	if !doc.IsObject() {
		return list, false
	}
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
