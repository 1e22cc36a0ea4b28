package config

import (
	"os"
	"regexp"
	"strings"
)

var reference = regexp.MustCompile(`\$\$\{|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$\{`)

// expand replaces every ${NAME} in the texts below n from the environment. report is told what cannot be replaced.
func expand(n *node, path string, report func(n *node, path, message, hint string)) {
	for _, key := range n.keys() {
		expand(n.table[key], join(path, key), report)
	}
	for i, item := range n.items {
		expand(item, at(path, i), report)
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
			report(n, path, `has "${" without a variable name`, "write ${NAME}, or $${ for a literal ${")
			return ""
		case !set:
			report(n, path, "the environment variable "+name+" is not set", "set "+name+", or write $${"+name+"} for a literal text")
			return ""
		default:
			n.secret, n.loose = true, true
			return value
		}
	})
}
