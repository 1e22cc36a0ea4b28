package event

import "strings"

type field struct{ key, raw string }

// members walks through the fields of one JSON object, which is valid.
type members struct {
	text      string
	begin, at int // where the last field begins, and ends
}

// membersOf reports false when text is no JSON object.
func membersOf(text string) (members, bool) {
	m := members{text: text}
	m.pass()
	if m.at == len(text) || text[m.at] != '{' {
		return m, false
	}
	m.at++
	return m, true
}

func (m *members) next() (f field, ok bool) {
	m.pass()
	if m.at == len(m.text) || m.text[m.at] != '"' {
		return f, false
	}
	m.begin = m.at
	m.at = stringEnd(m.text, m.at)
	f.key = m.text[m.begin:m.at]
	m.pass()
	value := m.at
	m.at = valueEnd(m.text, m.at)
	f.raw = m.text[value:m.at]
	return f, true
}

// last returns the whole last field.
func (m *members) last() string { return m.text[m.begin:m.at] }

// skip goes past the next field when it is this one.
func (m *members) skip(whole string) bool {
	m.pass()
	rest, same := strings.CutPrefix(m.text[m.at:], whole)
	if !same || rest == "" || rest[0] != ',' && rest[0] != '}' { // else 1 could be the beginning of 12
		return false
	}
	m.at += len(whole)
	return true
}

// pass goes past what separates keys and values; in valid JSON that needs no closer look.
func (m *members) pass() {
	for m.at < len(m.text) && (m.text[m.at] <= ' ' || m.text[m.at] == ',' || m.text[m.at] == ':') {
		m.at++
	}
}

// stringEnd returns where the string ends that begins at a place.
func stringEnd(text string, at int) int {
	for end := at + 1; ; end++ {
		n := strings.IndexByte(text[end:], '"')
		if n < 0 {
			return len(text)
		}
		end += n
		first := end
		for first > at+1 && text[first-1] == '\\' {
			first--
		}
		if (end-first)%2 == 0 {
			return end + 1
		}
	}
}

// valueEnd returns where the value ends that begins at a place.
func valueEnd(text string, at int) int {
	if at == len(text) {
		return at
	}
	switch text[at] {
	case '"':
		return stringEnd(text, at)
	case '{', '[':
		return bracketEnd(text, at)
	}
	for at < len(text) && text[at] > ' ' && text[at] != ',' && text[at] != '}' {
		at++
	}
	return at
}

// bracketEnd returns where the object or list ends that begins at a place.
func bracketEnd(text string, at int) int {
	for depth := 0; at < len(text); at++ {
		switch text[at] {
		case '"':
			at = stringEnd(text, at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
	}
	return len(text)
}
