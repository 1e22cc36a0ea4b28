package handlers

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says what is wrong with a condition or a template, and where.
type SyntaxError struct {
	Source  string // the text that the user wrote
	Offset  int    // in bytes, at most len(Source)
	Message string
	Hint    string // what to write instead, "" when Message says it
}

func (e *SyntaxError) Error() string {
	line, column := e.Position()
	where := fmt.Sprintf("column %d", column)
	if strings.Contains(e.Source, "\n") {
		where = fmt.Sprintf("line %d, column %d", line, column)
	}
	if e.Hint == "" {
		return where + ": " + e.Message
	}
	return where + ": " + e.Message + " (" + e.Hint + ")"
}

// Position returns the line and the column of the mistake, both from 1; columns count characters.
func (e *SyntaxError) Position() (line, column int) {
	before := e.Source[:e.offset()]
	start := strings.LastIndexByte(before, '\n') + 1
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:])
}

// Caret returns the line that holds the mistake, with a caret under its column.
func (e *SyntaxError) Caret() string {
	at := e.offset()
	start := strings.LastIndexByte(e.Source[:at], '\n') + 1
	line, _, _ := strings.Cut(e.Source[start:], "\n")
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(line, "\r") + "\n")
	for _, r := range e.Source[start:at] {
		if r != '\t' { // a tab stays one, so that the caret moves as far as the line above did
			r = ' '
		}
		b.WriteRune(r)
	}
	b.WriteByte('^')
	return b.String()
}

// offset is the start of the character that Offset points into.
func (e *SyntaxError) offset() int {
	at := min(max(e.Offset, 0), len(e.Source))
	for at > 0 && at < len(e.Source) && !utf8.RuneStart(e.Source[at]) {
		at--
	}
	return at
}
