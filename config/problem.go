package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Position says where a value came from.
type Position struct {
	File string `json:"file"`               // "" unless the file holds it
	Line int    `json:"line"`               // from 1; 0 when the file does not hold it
	Col  int    `json:"column"`             // from 1, in characters
	Env  string `json:"variable,omitempty"` // environment variable that holds it, "" otherwise
}

// String returns "FILE:LINE:COL", "FILE", "env:NAME", or "" for a default.
func (p Position) String() string {
	switch {
	case p.Env != "":
		return "env:" + p.Env
	case p.Line == 0:
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Col)
}

// Problem is one mistake in the configuration.
type Problem struct {
	Position
	Key     string `json:"key"`     // such as "observers[2].actions[0].url"; "" when the file itself is wrong
	Message string `json:"message"` // what is wrong
	Hint    string `json:"hint"`    // what to write instead; may be ""
}

// String returns "FILE:LINE:COL: key: what is wrong (what to write instead)".
func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Position.String(), p.Key, p.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	s := strings.Join(parts, ": ")
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems is every mistake that one reading found. It is the error of [Load].
type Problems struct { //nolint:errname // reads as what it is: config.Problems
	List []Problem
}

// Error prints every problem, one a line.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, q := range p.List {
		lines[i] = q.String()
	}
	return strings.Join(lines, "\n")
}

// err sorts the problems by position and returns p, or nil when there are none.
func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	sortProblems(p.List)
	return p
}

// sortProblems puts the file's problems first, in its order, then the environment's by name.
func sortProblems(list []Problem) {
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Env, b.Env), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
}
