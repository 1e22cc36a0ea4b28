package event

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"
)

// Raw returns the JSON at a path that starts with one of the roots: Raw("data", "customer", "email"). ok is false when
// there is nothing there; a null that is there is returned as null. It reads without decoding the whole, so asking for a
// few fields costs little, and every digit stays.
func (e *Event) Raw(path ...string) (raw string, ok bool) {
	if len(path) == 0 {
		return "", false
	}
	if path[0] == "event" {
		if len(path) == 1 {
			return textOf(e.JSON()), true
		}
		if raw, ok := e.attribute(path[1]); ok {
			return Within(raw, path[2:])
		}
		path = path[1:] // event.data is data
	}
	switch path[0] {
	case "data":
		return e.views.data.find(e.Data, path[1:])
	case "before":
		return e.views.before.find(e.Before, path[1:])
	case "changes":
		return e.views.changes.find(e.Changes, path[1:])
	}
	return "", false
}

// attribute returns a field of the event itself, other than its three images.
func (e *Event) attribute(name string) (string, bool) {
	var short [64]byte // holds most of them
	b := short[:0]
	switch name {
	case "id":
		b = appendString(b, e.ID)
	case "event_type":
		b = appendString(b, string(e.Type))
	case "entity_type":
		b = appendString(b, e.Entity)
	case "entity_id":
		b = appendString(b, e.EntityID)
	case "tenant_id":
		b = appendNullable(b, e.TenantID)
	case "user_id":
		b = appendNullable(b, e.UserID)
	case "timestamp":
		b = append(e.Timestamp.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
	case "seq":
		b = strconv.AppendInt(b, e.Seq, 10)
	case "source":
		b = appendNullable(b, e.Source)
	case "actor_type":
		b = appendNullable(b, e.ActorType)
	case "schema_version":
		b = strconv.AppendInt(b, int64(e.SchemaVersion), 10)
	default:
		return "", false
	}
	return string(b), true
}

// topLevel lists the fields of one JSON object.
type topLevel struct {
	once   sync.Once
	fields []rawField
}

type rawField struct {
	key, raw string
}

func (t *topLevel) find(image json.RawMessage, path []string) (string, bool) {
	if len(path) == 0 {
		if raw := strings.TrimSpace(textOf(image)); raw != "" {
			return raw, true
		}
		return "null", true
	}
	t.once.Do(func() { t.fields = rawFields(image) })
	name, rest := path[0], path[1:]
	for i := len(t.fields) - 1; i >= 0; i-- { // of a key that is there twice, the last counts; conditions are why this is no iterator
		if f := &t.fields[i]; f.key == name {
			if len(rest) == 0 {
				return f.raw, true
			}
			return Within(f.raw, rest)
		}
	}
	return "", false
}

func rawFields(image json.RawMessage) []rawField {
	doc := gjson.Parse(textOf(image))
	if !doc.IsObject() {
		return nil
	}
	list := make([]rawField, 0, 16)
	doc.ForEach(func(key, value gjson.Result) bool {
		list = append(list, rawField{keyText(key), value.Raw})
		return true
	})
	return list
}

// Within returns the JSON at a path in raw, which is valid JSON. In a list, a number stands for an element, from 0.
func Within(raw string, path []string) (string, bool) {
	for _, name := range path {
		var found bool
		switch doc := gjson.Parse(raw); {
		case doc.IsObject():
			doc.ForEach(func(key, value gjson.Result) bool {
				if keyText(key) == name {
					raw, found = value.Raw, true
				}
				return true
			})
		case doc.IsArray():
			raw, found = element(doc, name)
		}
		if !found {
			return "", false
		}
	}
	return raw, true
}

func element(list gjson.Result, name string) (raw string, ok bool) {
	left, err := strconv.Atoi(name)
	if err != nil || left < 0 {
		return "", false
	}
	list.ForEach(func(_, value gjson.Result) bool {
		raw, ok = value.Raw, left == 0
		left--
		return !ok
	})
	return raw, ok
}

// Value decodes valid JSON as conditions see it: numbers are float64, and infinite where that ends.
func Value(raw string) (any, error) { return unmarshal([]byte(raw)) }

// textOf returns JSON of an event as a string without copying it, which is safe since it never changes.
func textOf(raw []byte) string {
	return unsafe.String(unsafe.SliceData(raw), len(raw)) //nolint:gosec // see above
}

// keyText decodes a key as package json does, which matters where it is not well-formed text.
func keyText(key gjson.Result) string {
	if text := key.Raw; len(text) >= 2 && plain(text[1:len(text)-1]) {
		return text[1 : len(text)-1]
	}
	return Text(key.Raw)
}

// Text returns the text of a JSON string, "" for any other value.
func Text(raw string) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if inner := raw[1 : len(raw)-1]; plain(inner) {
		return inner
	}
	var s string
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return ""
	}
	return s
}

// plain reports whether what stands between the quotes of a JSON string is its text.
func plain(s string) bool { return strings.IndexByte(s, '\\') < 0 && utf8.ValidString(s) }
