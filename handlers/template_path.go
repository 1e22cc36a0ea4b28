package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

var (
	segmentForm = regexp.MustCompile(`^(?:\.([A-Za-z_][A-Za-z0-9_]*)|\.("(?:[^"\\]|\\.)*")|\[([0-9]{1,9})\])`)
	defaultForm = regexp.MustCompile(`^\s*\|\s*default\s+(\S(?s:.*))$`)
)

const placeholderHelp = `write {{ data.field }} or {{ data.field | default "text" }}`

// otherWords are what blocks are called elsewhere.
var otherWords = map[string]string{
	"endif": "write {{ end }}", "endfor": "write {{ end }}", "/if": "write {{ end }}", "/each": "write {{ end }}", "/for": "write {{ end }}",
	"elif": "write {{ else if … }}", "elsif": "write {{ else if … }}", "elseif": "write {{ else if … }}",
	"range": loopHelp, "foreach": loopHelp, "each": loopHelp, "#each": loopHelp, "#for": loopHelp,
	"#if": "write {{ if … }}", "unless": "write {{ if !… }}",
}

func (p *templateParser) placeholder(s excerpt) (part, error) {
	path, rest := splitPath(s.text)
	m := defaultForm.FindStringSubmatch(rest)
	if path == nil || rest != "" && m == nil {
		return part{}, p.noPlaceholder(s, path, rest)
	}
	name := s.text[:len(s.text)-len(rest)]
	if err := p.checkRoot(s, path); err != nil {
		return part{}, err
	}
	one := part{kind: valuePart, name: name, path: path, start: s.start}
	if m == nil {
		return one, nil
	}
	var err error
	if one.fallback, err = fallback(m[1]); err != nil {
		return part{}, p.fail(s.start+len(s.text)-len(m[1]), err.Error(), placeholderHelp)
	}
	return one, nil
}

// noPlaceholder says what is wrong where rest is what cannot be read.
func (p *templateParser) noPlaceholder(s excerpt, path []string, rest string) error {
	word, _, _ := strings.Cut(s.text, " ")
	hint := otherWords[word]
	if path != nil && !slices.Contains(p.visible(), path[0]) && !slices.Contains(roots, path[0]) {
		path = nil
	}
	switch {
	case hint != "":
	case strings.HasPrefix(s.text, "-") || strings.HasSuffix(s.text, "-"):
		hint = "write {{ without -: a line with nothing but the tag of a block leaves no empty line"
	case path != nil && strings.HasPrefix(strings.TrimSpace(rest), "|"):
		return p.fail(s.start+len(s.text)-len(strings.TrimLeft(rest, whitespace)), "only default stands behind |", placeholderHelp)
	case path != nil:
		return p.fail(s.start+len(s.text)-len(rest), "not the end of a placeholder", placeholderHelp)
	default:
		hint = placeholderHelp
	}
	return p.fail(s.start, "not a placeholder", hint)
}

// splitPath reads a path such as data.items[0]."unit price", nil when there is none, and returns what follows.
func splitPath(s string) (path []string, rest string) {
	root := nameForm.FindString(s)
	if root == "" {
		return nil, s
	}
	path, rest = []string{root}, s[len(root):]
	for m := segmentForm.FindStringSubmatch(rest); m != nil; m = segmentForm.FindStringSubmatch(rest) {
		name := m[1] + m[3]
		if m[2] != "" && json.Unmarshal([]byte(m[2]), &name) != nil {
			return path, rest
		}
		path, rest = append(path, name), rest[len(m[0]):]
	}
	if path[0] == "event" && len(path) > 1 && slices.Contains(images, path[1]) {
		path = path[1:] // event.data is data
	}
	return path, rest
}

// images are the fields of an event that are roots as well.
var images = []string{"data", "before", "changes"}

// attributes are the fields of an event.
var attributes = []string{
	"id", "event_type", "entity_type", "entity_id", "data", "before", "changes", "tenant_id", "user_id", "timestamp", "seq",
	"source", "actor_type", "schema_version",
}

// checkRoot refuses a path that leads to nothing in any event.
func (p *templateParser) checkRoot(s excerpt, path []string) error {
	known := append(p.visible(), roots...)
	second := s.start + len(path[0]) + 1
	switch {
	case !slices.Contains(known, path[0]) && otherWords[path[0]] != "":
		return p.fail(s.start, "not a placeholder", otherWords[path[0]])
	case !slices.Contains(known, path[0]):
		return p.fail(s.start, path[0]+" is none of "+strings.Join(known, ", "), didYouMean(path[0], known, placeholderHelp))
	case len(path) == 1:
	case path[0] == "event" && !slices.Contains(attributes, path[1]):
		return p.fail(second, "an event has no "+path[1], didYouMean(path[1], attributes, "it has "+strings.Join(attributes, ", ")))
	case path[0] == loopName && !slices.Contains(loopFields, path[1]):
		return p.fail(second, "a loop has no "+path[1], didYouMean(path[1], loopFields, "it has "+strings.Join(loopFields, ", ")))
	}
	return nil
}

// didYouMean is a hint: the known word that was meant, or something else where none is near.
func didYouMean(word string, known []string, otherwise string) string {
	if near := suggest.Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	return otherwise
}

var scalarForm = regexp.MustCompile(`^(?:true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)$`)

var errNoDefault = errors.New("a default is text between quotation marks, a number, true or false")

// fallback returns the JSON of what stands after default.
func fallback(literal string) (string, error) {
	if scalarForm.MatchString(literal) {
		return literal, nil
	}
	text, err := "", errNoDefault
	if c := literal[0]; (c == '"' || c == '\'') && quoteEnd(literal, 0) == len(literal) {
		text, err = strings.ReplaceAll(literal[1:len(literal)-1], `\'`, `'`), nil
		if c == '"' {
			text, err = strconv.Unquote(literal)
		}
	}
	if err != nil {
		return "", errNoDefault
	}
	b, err := json.Marshal(text)
	if err != nil {
		return "", fmt.Errorf("read default: %w", err)
	}
	return string(b), nil
}
