package event

import "encoding/json"

// Diff returns {field: {"old", "new"}} for the fields of two row images that are not the same text, nil when either is no
// JSON object. Both are expected as Postgres prints jsonb, so equal values are equal text.
func Diff(before, after json.RawMessage) json.RawMessage {
	was, ok := membersOf(textOf(before))
	is, ok2 := membersOf(textOf(after))
	if !ok || !ok2 {
		return nil
	}
	if changes, same := diffInStep(was, is); same {
		return changes
	}
	return diffByKey(fields(was), fields(is))
}

// diffInStep walks through both at once. Two images of one table have the same keys in the same order; it reports false
// where these have not.
func diffInStep(was, is members) (changes json.RawMessage, same bool) {
	b := append(make([]byte, 0, 128), '{')
	for {
		f, more := is.next()
		if more && was.skip(is.last()) {
			continue
		}
		old, had := was.next()
		switch {
		case more != had || old.key != f.key:
			return nil, false
		case !more:
			return append(b, '}'), true
		case old.raw != f.raw:
			b = appendChange(b, f.key, old.raw, f.raw)
		}
	}
}

func diffByKey(was, is []field) json.RawMessage {
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

func fields(m members) []field {
	list := make([]field, 0, 16)
	for f, ok := m.next(); ok; f, ok = m.next() {
		list = append(list, f)
	}
	return list
}

// find looks at the same place first, where most keys are in both.
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
