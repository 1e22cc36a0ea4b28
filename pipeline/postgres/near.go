package postgres

import (
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// didYouMean suggests the nearest of names, or nothing when none is near.
func didYouMean(name string, names []string) string {
	best, distance := "", len(name)/3+2
	for _, candidate := range names {
		bare := candidate
		if !strings.Contains(name, ".") {
			bare = candidate[strings.LastIndexByte(candidate, '.')+1:]
		}
		if d := suggest.Distance(strings.ToLower(name), strings.ToLower(strings.Trim(bare, `"`))); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}
