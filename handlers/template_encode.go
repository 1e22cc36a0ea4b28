package handlers

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer/event"
)

// encode appends a JSON value in the form that the template's place takes.
func (t *Template) encode(b []byte, raw string, quoted bool) ([]byte, error) {
	switch t.position {
	case JSONBody:
		if quoted {
			return appendQuotedText(b, raw), nil
		}
		return append(b, validText(raw)...), nil
	case URL:
		if raw == "null" {
			return nil, errNull
		}
		return appendPercent(b, text(raw)), nil
	case Form:
		return appendPercent(b, text(raw)), nil
	case Header:
		value := text(raw)
		if hasControl(value) {
			return nil, errControl
		}
		return append(b, value...), nil
	case Slack:
		return append(b, slackText.Replace(text(raw))...), nil
	case Subject:
		return append(b, oneLine(text(raw))...), nil
	case KeyPattern:
		value := text(raw)
		if value == "" {
			return nil, errEmpty
		}
		return append(b, keyText.Replace(value)...), nil
	default:
		return append(b, text(raw)...), nil
	}
}

// validText is s where it is UTF-8, as JSON must be.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError))
}

var (
	// https://docs.slack.dev/messaging/formatting-message-text#escaping
	slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	// https://redis.io/docs/latest/commands/keys
	keyText = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "^", `\^`, "-", `\-`)
)

// oneLine writes a space in the place of each control character.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// text is how a JSON value reads inside text: null is nothing, an object or a list is its JSON.
func text(raw string) string {
	switch {
	case raw == "null":
		return ""
	case raw != "" && raw[0] == '"':
		return event.Text(raw)
	}
	return raw
}

// appendQuotedText appends a value inside a JSON string. What stands between a JSON string's quotes is escaped already.
func appendQuotedText(b []byte, raw string) []byte {
	switch {
	case raw == "null":
		return b
	case raw[0] == '"':
		return append(b, validText(raw[1:len(raw)-1])...)
	}
	quoted, _ := json.Marshal(raw) // a string always marshals
	return append(b, quoted[1:len(quoted)-1]...)
}

const hexDigits = "0123456789ABCDEF"

// appendPercent keeps the characters that RFC 3986 calls unreserved, which mean themselves in every part of a URL.
func appendPercent(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// hasControl reports whether a header cannot hold s.
func hasControl(s string) bool { return controlIn(s) >= 0 }

// controlIn returns where in s the first control character is that a header cannot hold, -1 when there is none.
func controlIn(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return -1
}
