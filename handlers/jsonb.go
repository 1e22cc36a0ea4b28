package handlers

import (
	"bytes"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonb returns JSON as Postgres takes it for jsonb. Three things that JSON allows it refuses, and would refuse again in each
// retry: NUL, which its text cannot hold; half of a surrogate pair; and bytes that are not UTF-8. Each becomes \ufffd, as
// encoding/json replaces the last two. Nothing is decoded, so everything else stays as it is: all digits of a number, and \\u0000,
// which is a backslash and five letters. Where nothing is to be replaced raw itself is returned; it is not changed.
func jsonb(raw []byte) []byte {
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte(`\ufffd`))
	}
	var out []byte
	done := 0 // so much of raw is in out
	for at := 0; ; {
		next := bytes.IndexByte(raw[at:], '\\')
		if next < 0 {
			break
		}
		at += next
		size, fits := escape(raw[at:])
		if !fits {
			out = append(append(out, raw[done:at]...), `\ufffd`...)
			done = at + size
		}
		at = min(at+size, len(raw))
	}
	if done == 0 {
		return raw
	}
	return append(out, raw[done:]...)
}

// escape returns the length of the escape that s begins with, and whether jsonb can hold what it stands for.
func escape(s []byte) (size int, fits bool) {
	unit := codeUnit(s)
	switch {
	case unit < 0:
		return len(`\\`), true
	case !utf16.IsSurrogate(unit):
		return len(`\u0000`), unit != 0
	case utf16.DecodeRune(unit, codeUnit(s[len(`\u0000`):])) != unicode.ReplacementChar:
		return len(`\ud83d\ude00`), true
	}
	return len(`\ud83d`), false
}

// codeUnit returns what \uXXXX at the start of s stands for, -1 when s starts otherwise.
func codeUnit(s []byte) rune {
	if len(s) < len(`\u0000`) || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}
