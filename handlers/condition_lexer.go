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
	if rest[0] == '=' {
		return token{}, &SyntaxError{Source: src, Offset: at, Message: "= compares nothing", Hint: "write =="}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return token{}, &SyntaxError{Source: src, Offset: at, Message: "unexpected character " + strconv.QuoteRune(r), Hint: "text stands between single quotes"}
}

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

// delimited reads a quoted name, a raw string or a JSON literal: a backslash takes the next character with it.
func delimited(src string, at int) (token, error) {
	quote, end := src[at], at+1
	for end < len(src) && src[end] != quote {
		if src[end] == '\\' && end+1 < len(src) && (quote != '\'' || src[end+1] == '\'') {
			end++
		}
		end++
	}
	if end >= len(src) {
		return token{}, &SyntaxError{Source: src, Offset: at, Message: fmt.Sprintf("this %c has no end", quote)}
	}
	t := token{text: src[at : end+1], start: at}
	inner := src[at+1 : end]
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
