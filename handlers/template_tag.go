package handlers

import "strings"

// excerpt is a part of a template's text, without the spaces around it.
type excerpt struct {
	text  string
	start int // in the source
}

// trimmed is the part of src from start to end.
func trimmed(src string, start, end int) excerpt {
	text := strings.TrimLeft(src[start:end], whitespace)
	return excerpt{strings.TrimRight(text, whitespace), end - len(text)}
}

const whitespace = " \t\r\n"

// tag is what stands between {{ and }}: the word of a block with what follows it, or a placeholder.
type tag struct {
	open, end int    // in the source, braces included
	word      string // if, for, else, end; "" of a placeholder
	excerpt
}

// words begin the tags of blocks.
var words = map[string]bool{"if": true, "for": true, "else": true, "end": true}

func newTag(open, end int, s excerpt) tag {
	word := nameForm.FindString(s.text)
	if !words[word] {
		return tag{open, end, "", s}
	}
	return tag{open, end, word, trimmed(s.text, len(word), len(s.text)).in(s)}
}

// in returns the excerpt of a text that is itself the text of an excerpt.
func (s excerpt) in(around excerpt) excerpt { return excerpt{s.text, around.start + s.start} }

// second is the tag that follows the word of t: the if of an else if.
func (t tag) second() tag { return newTag(t.open, t.end, t.excerpt) }

// next finds the next tag. Where there is none, the tag is the end of the text.
func (p *templateParser) next() (t tag, found bool, err error) {
	open := strings.Index(p.src[p.at:], "{{")
	if open < 0 {
		return tag{open: len(p.src), end: len(p.src)}, false, nil
	}
	open += p.at
	end, quote := tagEnd(p.src, open+2)
	switch {
	case quote >= 0:
		return tag{}, false, p.fail(quote, "this "+p.src[quote:quote+1]+" has no end", "")
	case end < 0:
		return tag{}, false, p.fail(open, "this {{ has no }}", "write {{ data.field }}")
	}
	return newTag(open, end+2, trimmed(p.src, open+2, end)), true, nil
}

// tagEnd returns where the "}}" is that is not inside quotes, and -1. Where there is none it returns -1, and where the
// quotation mark stands that is the reason, or -1.
func tagEnd(src string, at int) (end, quote int) {
	for at < len(src) {
		switch c := src[at]; {
		case c == '"' || c == '`' || c == '\'':
			end := quoteEnd(src, at)
			if end < 0 {
				return -1, at
			}
			at = end
		case strings.HasPrefix(src[at:], "}}"):
			return at, -1
		default:
			at++
		}
	}
	return -1, -1
}
