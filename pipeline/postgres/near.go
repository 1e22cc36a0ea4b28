package postgres

import "strings"

// didYouMean suggests the nearest of names, or nothing when none is near.
func didYouMean(name string, names []string) string {
	best, distance := "", len(name)/3+2
	for _, candidate := range names {
		bare := candidate
		if !strings.Contains(name, ".") {
			bare = candidate[strings.LastIndexByte(candidate, '.')+1:]
		}
		if d := editDistance(strings.ToLower(name), strings.ToLower(strings.Trim(bare, `"`))); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
