package config

import (
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// hintFor suggests the candidate that word was meant to be, or lists all of them.
func hintFor(word string, candidates []string) string {
	if near := suggest.Nearest(word, candidates); near != "" {
		return `did you mean "` + near + `"?`
	}
	if len(candidates) == 0 {
		return ""
	}
	return "known: " + strings.Join(candidates, ", ")
}
