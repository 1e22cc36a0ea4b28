package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

var reference = regexp.MustCompile(`\$\$\{|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$\{`)

// expand replaces every ${NAME} in the texts below n from the environment, and reports what cannot be replaced.
func (d *decoder) expand(n *node, path string) {
	for _, key := range n.keys() {
		d.expand(n.table[key], join(path, key))
	}
	for i, item := range n.items {
		d.expand(item, at(path, i))
	}
	text, ok := n.raw.(string)
	if !ok || n.kind != kindText {
		return
	}
	n.raw = reference.ReplaceAllStringFunc(text, func(ref string) string {
		name := strings.TrimSuffix(strings.TrimPrefix(ref, "${"), "}")
		switch value, set := os.LookupEnv(name); {
		case ref == "$${":
			return "${"
		case ref == "${":
			d.report(n, path, `has "${" without a variable name`, "write ${NAME}, or $${ for a literal ${")
			return ""
		case !set && d.opts.Needs == NeedsNothing && isServers(path):
			n.bad = true // no value, and nothing to say about it
			return ""
		case !set:
			d.report(n, path, "the environment variable "+name+" is not set", "set "+name+", or write $${"+name+"} for a literal text")
			return ""
		default:
			n.secret, n.loose = true, true
			return value
		}
	})
}

// isServers reports whether a key is about servers, which a command that needs none leaves alone.
func isServers(path string) bool {
	table, _, _ := strings.Cut(path, ".")
	return slices.Contains([]string{"transport", "redis", "smtp", "admin"}, table)
}
