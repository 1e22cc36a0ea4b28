package config

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parse reads a TOML document into a tree. A syntax error is the only problem that it finds.
func parse(file string, data []byte) (*node, *Problem) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte-order mark, as some editors write
	var raw map[string]any
	if err := toml.Unmarshal(data, &raw); err != nil {
		return nil, syntaxProblem(file, data, err)
	}
	m := &marker{lines: newLines(file, data), places: map[string]place{}, arrays: map[string]int{}}
	m.places[""] = place{value: Position{File: file, Line: 1, Col: 1}}
	m.document(data)
	if raw == nil {
		raw = map[string]any{}
	}
	return newNode(raw, "", m.places, Position{}), nil
}

// bareText is a line whose value is a word.
var bareText = regexp.MustCompile(`^[^#"'=]*=\s*[A-Za-z_][^"',\[\]{}=]*$`)

func syntaxProblem(file string, data []byte, err error) *Problem {
	p := &Problem{Position: Position{File: file, Line: 1, Col: 1}, Message: "is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
	if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, col := syntax.Position()
		lines := newLines(file, data)
		p.Position = lines.inLine(line, col)
		if bareText.Match(lines.text(line)) {
			p.Message, p.Hint = "is not TOML: text without quotes", `write key = "text"; only numbers, dates, true and false stand alone`
		}
	}
	return p
}

// place is where a key and its value stand.
type place struct{ key, value Position }

// marker walks go-toml's syntax tree and notes where every value stands. The document is known to be right.
type marker struct {
	lines  lines
	places map[string]place
	arrays map[string]int // tables so far in each [[array]]
	parser unstable.Parser
}

func (m *marker) document(data []byte) {
	m.parser.Reset(data)
	table := ""
	for m.parser.NextExpression() {
		expr := m.parser.Expression()
		switch expr.Kind {
		case unstable.Table:
			table = m.keys("", expr.Key(), true)
		case unstable.ArrayTable:
			path := m.keys("", expr.Key(), false)
			m.arrays[path]++
			table = at(path, m.arrays[path]-1)
			here := m.lines.at(int(expr.Child().Raw.Offset))
			m.places[table] = place{key: here, value: here}
		case unstable.KeyValue:
			m.keyValue(table, expr)
		default: // comments
		}
	}
}

// keys notes the parts of a dotted key below path and returns the path of the last. A part that names an array of
// tables stands for its newest table; the last part only if last says so.
func (m *marker) keys(path string, it unstable.Iterator, last bool) string {
	for it.Next() {
		part := it.Node()
		path = join(path, string(part.Data))
		here := m.lines.at(int(part.Raw.Offset))
		if _, known := m.places[path]; !known {
			m.places[path] = place{key: here, value: here}
		}
		if n := m.arrays[path]; n > 0 && (last || !it.IsLast()) {
			path = at(path, n-1)
		}
	}
	return path
}

func (m *marker) keyValue(table string, expr *unstable.Node) {
	path := m.keys(table, expr.Key(), true)
	p := m.places[path]
	end := 0
	for it := expr.Key(); it.Next(); {
		end = int(it.Node().Raw.Offset + it.Node().Raw.Length)
		p.key = m.lines.at(int(it.Node().Raw.Offset))
	}
	p.value = m.lines.at(m.lines.skip(end, " \t="))
	m.places[path] = p
	m.value(path, expr.Value())
}

func (m *marker) value(path string, v *unstable.Node) {
	it := v.Children()
	for i := 0; it.Next(); i++ {
		item := it.Node()
		switch v.Kind {
		case unstable.InlineTable:
			m.keyValue(path, item)
		case unstable.Array:
			if item.Raw.Length > 0 {
				m.places[at(path, i)] = place{value: m.lines.at(int(item.Raw.Offset))}
			}
			m.value(at(path, i), item)
		}
	}
}
