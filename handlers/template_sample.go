package handlers

import "strings"

// sample is a text that is made from a template to be checked by somebody who knows no placeholders. It notes where each
// piece came from, so that a mistake is shown in the template.
type sample struct {
	strings.Builder
	pieces []samplePiece
}

// samplePiece says that the sample from there on came from src; verbatim pieces are equal byte for byte.
type samplePiece struct {
	at, src  int
	verbatim bool
}

// copy adds a literal.
func (s *sample) copy(literal string, src int) {
	s.pieces = append(s.pieces, samplePiece{s.Len(), src, true})
	_, _ = s.WriteString(literal) // a builder takes everything
}

// replace adds what stands for something at a place in the source.
func (s *sample) replace(text string, src int) {
	s.pieces = append(s.pieces, samplePiece{s.Len(), src, false})
	_, _ = s.WriteString(text) // as above
}

// source returns the place in the source of a place in the sample.
func (s *sample) source(at int) int {
	found := 0
	for _, p := range s.pieces {
		switch {
		case p.at > at:
			return found
		case p.verbatim:
			found = p.src + at - p.at
		default:
			found = p.src
		}
	}
	return found
}
