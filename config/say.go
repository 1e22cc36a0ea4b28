package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/suggest"
)

var secretType = reflect.TypeFor[secret.String]()

// wrongKind reports a value of another kind than its key.
func (d *decoder) wrongKind(f field, n *node, path string) {
	subject := "is "
	if n.secret {
		subject = "the value of its ${…} is "
	}
	is := n.kind
	if n.loose {
		is = kindOf(n)
	}
	want := f.kind()
	if is == want { // a number beyond 64 bits, or a text such as "30" that looks like something else
		d.report(n, path, subject+"not "+string(want)+" that fits", f.allowed(n))
		return
	}
	d.report(n, path, subject+string(is)+", not "+string(want), f.allowed(n))
}

// kindOf says what a text from the environment looks like.
func kindOf(n *node) kind {
	text, _ := n.raw.(string)
	text = strings.TrimSpace(text)
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return kindInt
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return kindFloat
	}
	if _, err := time.ParseDuration(text); err == nil {
		return kindLength
	}
	return kindText
}

// shown is ": " and the value, or nothing where the value may be a secret: from the environment, from a ${…}, or of the
// secret type.
func (d *decoder) shown(f field, n *node) string {
	if n.secret || n.pos.Env != "" || f.typ == secretType {
		return ""
	}
	return ": " + literal(n.raw)
}

// shownAt is shown for the value of key.
func (d *decoder) shownAt(key string) string {
	if n := d.cfg.values.nodes[key]; n != nil {
		return d.shown(field{}, n)
	}
	return ""
}

// literal writes a scalar as the file would, cut where it is long.
func literal(raw any) string {
	text, isText := raw.(string)
	if !isText {
		return fmt.Sprint(raw)
	}
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	return strconv.Quote(text)
}

// alias returns the value that another word of the environment stands for.
func (f field) alias(text string) (string, bool) {
	for _, pair := range words(f.tag.Get("envalias")) {
		if from, to, ok := strings.Cut(pair, "="); ok && from == text {
			return to, true
		}
	}
	return "", false
}

// allowed says what to write instead of n.
func (f field) allowed(n *node) string {
	if enum := f.enum(); len(enum) > 0 {
		return oneOfWords(enum, n)
	}
	switch f.kind() {
	case kindBool:
		if n.loose {
			return "write true, false, 1, 0, yes, no, on or off"
		}
		return "write true or false" + unquoted(n)
	case kindInt:
		return "write a whole number" + f.between() + unquoted(n)
	case kindFloat:
		return "write a number" + f.between() + unquoted(n)
	case kindLength:
		return `write a duration such as "30s"` + f.between()
	case kindArray:
		if n.pos.Env != "" {
			return "write a comma-separated list"
		}
		return `write a list such as ["a", "b"]`
	case kindTable:
		return `write a table such as { key = "value" }`
	default:
		return "write a text in quotes"
	}
}

func unquoted(n *node) string {
	if n.kind == kindText && !n.loose {
		return ", without quotes"
	}
	return ""
}

func (f field) between() string {
	low, high := f.tag.Get("min"), f.tag.Get("max")
	switch {
	case low != "" && high != "":
		return " from " + low + " to " + high
	case low != "":
		return " of at least " + low
	case high != "":
		return " of at most " + high
	}
	return ""
}

// oneOfWords lists the allowed words, the likely one first.
func oneOfWords(enum []string, n *node) string {
	quoted := make([]string, len(enum))
	for i, w := range enum {
		quoted[i] = strconv.Quote(w)
	}
	list := strings.Join(quoted, ", ")
	text, _ := n.raw.(string)
	if near := suggest.Nearest(text, enum); near != "" && !n.secret && n.pos.Env == "" {
		return "did you mean " + strconv.Quote(near) + "? allowed: " + list
	}
	return "allowed: " + list
}
