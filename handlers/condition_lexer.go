package handlers

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenSymbol
	tokenName    // an unquoted identifier
	tokenQuoted  // "an identifier"
	tokenString  // 'raw string'
	tokenLiteral // `JSON`
	tokenNumber  // bare, which JMESPath knows only between brackets
)

// token is a piece of a condition. The lexer follows go-jmespath's, so that both see the same pieces.
type token struct {
	kind  tokenKind
	text  string // as written
	start int
	value string // text of a name, quoted or not, or of a raw string; JSON of a literal
}

func (t token) is(symbol string) bool { return t.kind == tokenSymbol && t.text == symbol }
func (t token) end() int              { return t.start + len(t.text) }

// symbols are tried in this order: the longer ones first.
var symbols = []string{
	"[?", "[]", "||", "&&", "<=", ">=", "==", "!=",
	".", "*", ",", ":", "{", "}", "[", "]", "(", ")", "@", "|", "&", "<", ">", "!",
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	numberForm = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`)
)

// tokenize splits a condition. The last token is the end.
func tokenize(src string) ([]token, error) {
	var list []token
	for at := 0; at < len(src); {
		if strings.IndexByte(" \t\r\n", src[at]) >= 0 {
			at++
			continue
		}
		t, err := nextToken(src, at)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
		at = t.end()
	}
	return append(list, token{kind: tokenEnd, start: len(src)}), nil
}

func nextToken(src string, at int) (token, error) {
	rest := src[at:]
	switch c := rest[0]; {
	case c == '"', c == '\'', c == '`':
		return delimited(src, at)
	case c == '-' || c >= '0' && c <= '9':
		return number(src, at)
	}
	if name := nameForm.FindString(rest); name != "" {
		return token{tokenName, name, at, name}, nil
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s) {
			return token{tokenSymbol, s, at, s}, nil
		}
	}
	wrong := &SyntaxError{Source: src, Offset: at}
	switch r, _ := utf8.DecodeRuneInString(rest); {
	case strings.HasPrefix(rest, "=>"), strings.HasPrefix(rest, "=<"):
		wrong.Message, wrong.Hint = rest[:2]+" compares nothing", "write "+rest[1:2]+"="
	case r == '=':
		wrong.Message, wrong.Hint = "= compares nothing", "write =="
	case r == '+', r == '/', r == '%':
		wrong.Message, wrong.Hint = "unexpected "+string(r), "JMESPath has no arithmetic"
	default:
		wrong.Message, wrong.Hint = "unexpected character "+strconv.QuoteRune(r), "text stands between single quotes"
	}
	return token{}, wrong
}

func isNumber(s string) bool { return s != "" && numberForm.FindString(s) == s }

func number(src string, at int) (token, error) {
	text := numberForm.FindString(src[at:])
	if text == "" {
		return token{}, &SyntaxError{Source: src, Offset: at, Message: "- stands before a number only", Hint: "JMESPath has no arithmetic"}
	}
	if after := src[at+len(text):]; nameForm.MatchString(after) || after != "" && after[0] >= '0' && after[0] <= '9' {
		return token{}, &SyntaxError{Source: src, Offset: at, Message: "not a number", Hint: "text stands between single quotes"}
	}
	return token{tokenNumber, text, at, text}, nil
}

// quoteEnd returns where a quoted name, a raw string or a JSON literal ends that starts at a place, -1 when it does not: a
// backslash takes the next character with it, in a raw string only the quotation mark.
func quoteEnd(src string, at int) int {
	quote := src[at]
	for at++; at < len(src); at++ {
		switch c := src[at]; {
		case c == quote:
			return at + 1
		case c == '\\' && at+1 < len(src) && (quote != '\'' || src[at+1] == '\''):
			at++
		}
	}
	return -1
}

// delimited reads a quoted name, a raw string or a JSON literal.
func delimited(src string, at int) (token, error) {
	quote, end := src[at], quoteEnd(src, at)
	if end < 0 {
		return token{}, &SyntaxError{Source: src, Offset: at, Message: fmt.Sprintf("this %c has no end", quote)}
	}
	t := token{text: src[at:end], start: at}
	inner := src[at+1 : end-1]
	switch quote {
	case '\'':
		t.kind, t.value = tokenString, strings.ReplaceAll(inner, `\'`, `'`)
	case '"':
		t.kind = tokenQuoted
		if err := json.Unmarshal([]byte(t.text), &t.value); err != nil {
			return token{}, &SyntaxError{Source: src, Offset: at, Message: "not a quoted name: " + err.Error(), Hint: "text stands between single quotes"}
		}
	default:
		t.kind, t.value = tokenLiteral, strings.ReplaceAll(inner, "\\`", "`")
		if err := json.Unmarshal([]byte(t.value), new(any)); err != nil {
			return token{}, &SyntaxError{Source: src, Offset: at, Message: "not JSON between backticks: " + err.Error(), Hint: "text stands between single quotes"}
		}
	}
	return t, nil
}
