package handlers

import (
	"errors"
	htmltemplate "html/template"
	"slices"
	"sort"
	"strings"
)

// compileHTML makes a document of a template.
func compileHTML(src string, parts []part) (*document, error) {
	d, s, err := newDocument(parts)
	if err == nil && s.endsComment != nil {
		return nil, &SyntaxError{
			Source: src, Offset: s.endsComment.start, Message: "with a value before it, this may end the conditional comment around it",
			Hint: "put the value between quotation marks",
		}
	}
	if err == nil {
		return d, nil
	}
	wrong := &SyntaxError{Source: src, Message: "not HTML that values can stand in"}
	code := htmlCode(err)
	if words, ok := htmlErrors[code]; ok {
		wrong.Message, wrong.Hint = words.message, words.hint
	}
	wrong.Offset = s.wrongAt(err, parts)
	return nil, wrong
}

// htmlErrors says in our words what html/template says about its own templates.
var htmlErrors = map[htmltemplate.ErrorCode]struct{ message, hint string }{
	htmltemplate.ErrAmbigContext:     {"it is not clear which part of a URL this is", "write the whole URL in each branch of the block before it"},
	htmltemplate.ErrBadHTML:          {"not HTML: this tag has a quotation mark, = or < where none can be", "write attributes as name=\"value\""},
	htmltemplate.ErrBranchEnd:        {"what a block holds must end where it begins: not inside another tag, value, style or script", "begin and end each of them in the same branch"},
	htmltemplate.ErrEndContext:       {"this has no end", "end each tag, quoted value, comment, style and script"},
	htmltemplate.ErrPartialCharset:   {"a placeholder cannot stand in [] of a regular expression", "put the value into a variable of the script first"},
	htmltemplate.ErrPartialEscape:    {"a placeholder cannot stand behind a backslash", "write it before the backslash, or remove that"},
	htmltemplate.ErrRangeLoopReentry: {"what a loop holds must end where it begins: not inside another tag, value, style or script", "begin and end each of them inside the loop"},
	htmltemplate.ErrSlashAmbig:       {"it is not clear whether this / divides or begins a regular expression", "put brackets around what is before it"},
}

func htmlCode(err error) htmltemplate.ErrorCode {
	if wrong, ok := errors.AsType[*htmltemplate.Error](err); ok {
		return wrong.ErrorCode
	}
	return htmltemplate.OK
}

// wrongAt finds the place of an error in the source.
func (s *documentSample) wrongAt(err error, parts []part) int {
	wrong, ok := errors.AsType[*htmltemplate.Error](err)
	switch {
	case ok && wrong.Node != nil:
		return s.pieces.source(int(wrong.Node.Position()))
	case ok && wrong.ErrorCode == htmltemplate.ErrEndContext && s.markup.in != inText:
		return s.markup.since
	}
	return firstWith(htmlCode(err), parts)
}

// firstWith returns where the tag or the block begins that causes an error, which html/template does not say: it is in
// the shortest beginning of the template that has the error too.
func firstWith(code htmltemplate.ErrorCode, parts []part) int {
	type cut struct{ part, at int }
	var cuts []cut
	for i, p := range parts {
		cuts = append(cuts, cut{i, 0})
		for at := 1; at < len(p.literal); at++ {
			if p.literal[at] == '<' {
				cuts = append(cuts, cut{i, at})
			}
		}
	}
	n := sort.Search(len(cuts), func(n int) bool {
		if n == len(cuts)-1 {
			return true
		}
		end := cuts[n+1]
		beginning := slices.Clone(parts[:end.part])
		if end.at > 0 {
			beginning = append(beginning, part{literal: parts[end.part].literal[:end.at]})
		}
		_, _, err := newDocument(beginning)
		return htmlCode(err) == code
	})
	if n == len(cuts) {
		return 0
	}
	found := parts[cuts[n].part]
	return found.start + cuts[n].at + max(0, strings.IndexByte(found.literal[cuts[n].at:], '<'))
}
