package config

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"
)

// lines turns offsets in a document into positions.
type lines struct {
	file   string
	data   []byte
	starts []int // offset of each line
}

func newLines(file string, data []byte) lines {
	l := lines{file: file, data: data, starts: []int{0}}
	for i := 0; ; {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			return l
		}
		i += n + 1
		l.starts = append(l.starts, i)
	}
}

// at returns the position of an offset.
func (l lines) at(offset int) Position {
	line := sort.SearchInts(l.starts, offset+1)
	return l.inLine(line, offset-l.starts[line-1]+1)
}

// inLine returns the position of a column that was counted in bytes.
func (l lines) inLine(line, byteCol int) Position {
	p := Position{File: l.file, Line: line, Col: byteCol}
	if line < 1 || line > len(l.starts) {
		return p
	}
	start := l.starts[line-1]
	end := start + byteCol - 1
	if end >= start && end <= len(l.data) {
		p.Col = utf8.RuneCount(l.data[start:end]) + 1
	}
	return p
}

// text returns a line.
func (l lines) text(line int) []byte {
	if line < 1 || line > len(l.starts) {
		return nil
	}
	text, _, _ := bytes.Cut(l.data[l.starts[line-1]:], []byte("\n"))
	return text
}

// skip returns the first offset from start on that holds none of cutset.
func (l lines) skip(start int, cutset string) int {
	for start < len(l.data) && strings.IndexByte(cutset, l.data[start]) >= 0 {
		start++
	}
	return start
}
