package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
)

// printf writes progress and warnings to stderr.
func (p *program) printf(format string, args ...any) {
	fmt.Fprintf(p.err, format, args...)
}

// printJSON writes v to stdout.
func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable writes rows, the first of which is the heading, to stdout in aligned columns.
func (p *program) printTable(rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return w.Flush()
}

// oneLine replaces what would break a row or act on the terminal: rows and answers of servers can hold anything.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// list is the JSON of a command that lists things.
type list[T any] struct {
	Items []T `json:"items"`
	Total int `json:"total"`
}

func listOf[T any](items []T, total int) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{items, total}
}
