package handlers

import "strings"

// sample is a text that is made from a template to be checked by somebody who knows no placeholders. It notes where each
// piece came from, so that a mistake is shown in the template.
type sample struct {
	strings.Builder
	pieces sourceMap
}

// copy adds a literal.
func (s *sample) copy(literal string, src int) {
	s.pieces = append(s.pieces, piece{s.Len(), src, true})
	_, _ = s.WriteString(literal) // a builder takes everything
}

// replace adds what stands for something at a place in the source.
func (s *sample) replace(text string, src int) {
	s.pieces = append(s.pieces, piece{s.Len(), src, false})
	_, _ = s.WriteString(text) // as above
}
