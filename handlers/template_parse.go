package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// parseTemplate splits a template into literals and placeholders.
func parseTemplate(src string) ([]part, error) {
	var parts []part
	for at := 0; at < len(src); {
		open := strings.Index(src[at:], "{{")
		if open < 0 {
			return append(parts, part{literal: src[at:], start: at}), nil
		}
		open += at
		if open > at {
			parts = append(parts, part{literal: src[at:open], start: at})
		}
		end := placeholderEnd(src, open+2)
		if end < 0 {
			return nil, &SyntaxError{Source: src, Offset: open, Message: "this {{ has no }}"}
		}
		p, err := placeholder(src, open, end)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		at = end + 2
	}
	return parts, nil
}

// placeholderEnd returns where the "}}" is that is not inside quotes, -1 when there is none.
func placeholderEnd(src string, at int) int {
	for quote := byte(0); at < len(src); at++ {
		switch c := src[at]; {
		case quote != 0 && c == '\\' && quote == '"':
			at++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case strings.HasPrefix(src[at:], "}}"):
			return at
		}
	}
	return -1
}

var placeholderForm = regexp.MustCompile(
	`^([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)(?:\s*\|\s*default\s+(\S(?s:.*)))?$`)

const placeholderHelp = `write {{ data.field }} or {{ data.field | default "text" }}`

func placeholder(src string, open, end int) (part, error) {
	inner := strings.TrimSpace(src[open+2 : end])
	start := open + 2 + strings.Index(src[open+2:end], inner)
	fail := func(message, hint string) (part, error) {
		return part{}, &SyntaxError{Source: src, Offset: start, Message: message, Hint: hint}
	}
	m := placeholderForm.FindStringSubmatch(inner)
	if m == nil {
		return fail("not a placeholder that this version knows", placeholderHelp)
	}
	p := part{name: m[1], path: strings.Split(m[1], "."), start: open}
	if message := checkRoot(p.path); message != "" {
		return fail(message, placeholderHelp)
	}
	if m[2] == "" {
		return p, nil
	}
	var err error
	if p.fallback, err = fallback(m[2]); err != nil {
		start += strings.LastIndex(inner, m[2])
		return fail(err.Error(), placeholderHelp)
	}
	return p, nil
}

// attributes are the fields of an event.
var attributes = []string{
	"id", "event_type", "entity_type", "entity_id", "data", "before", "changes", "tenant_id", "user_id", "timestamp", "seq",
	"source", "actor_type", "schema_version",
}

func checkRoot(path []string) string {
	switch path[0] {
	case "data", "before", "changes":
		return ""
	case "event":
		if len(path) > 1 && !slices.Contains(attributes, path[1]) {
			return fmt.Sprintf("an event has no %s, only %s", path[1], strings.Join(attributes, ", "))
		}
		return ""
	}
	return path[0] + " is none of event, data, before, changes"
}

var scalarForm = regexp.MustCompile(`^(?:true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)$`)

// fallback returns the JSON of what stands after default.
func fallback(literal string) (string, error) {
	if scalarForm.MatchString(literal) {
		return literal, nil
	}
	if literal[0] != '\'' {
		if s, err := strconv.Unquote(literal); err == nil {
			b, err := json.Marshal(s)
			return string(b), err
		}
	}
	return "", errors.New(`a default is text in double quotes, a number, true or false`)
}

// checkJSON finds out which placeholders stand inside a JSON string, and whether the template is JSON with values in
// their places: then it is JSON with any values.
func checkJSON(src string, parts []part) error {
	var b strings.Builder
	inString, escaped := false, false
	for i := range parts {
		p := &parts[i]
		if p.path != nil {
			p.quoted = inString
			escaped = false
			b.WriteString(stand[inString])
			continue
		}
		for j := range len(p.literal) {
			switch c := p.literal[j]; {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = inString
			case c == '"':
				inString = !inString
			}
		}
		b.WriteString(p.literal)
	}
	return validJSON(src, b.String(), parts)
}

// stand is what stands for a placeholder, inside a string or outside: neither can be joined with what is around it into
// something that is valid by chance.
var stand = map[bool]string{true: "x", false: "null"}

func validJSON(src, sample string, parts []part) error {
	var wrong *json.SyntaxError
	if !errors.As(json.Unmarshal([]byte(sample), new(any)), &wrong) {
		return nil
	}
	at := int(wrong.Offset) - 1
	if strings.HasPrefix(wrong.Error(), "unexpected end") {
		at = len(sample)
	}
	return &SyntaxError{
		Source: src, Offset: sampleOffset(at, src, parts),
		Message: "not JSON: " + wrong.Error(), Hint: "with values in the places of the placeholders",
	}
}

// sampleOffset returns the place in src of a place in the sample.
func sampleOffset(at int, src string, parts []part) int {
	for _, p := range parts {
		length := len(p.literal)
		if p.path != nil {
			length = len(stand[p.quoted])
		}
		if at < length {
			if p.path != nil {
				return p.start
			}
			return p.start + at
		}
		at -= length
	}
	return len(src)
}
