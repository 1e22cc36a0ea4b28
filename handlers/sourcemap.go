package handlers

// sourceMap tells where each piece of a text that was made from another came from, so that a mistake found in the one is
// shown in the other.
type sourceMap []piece

// piece says that the text from there on came from src; verbatim pieces are equal byte for byte.
type piece struct {
	out, src int
	verbatim bool
}

// source returns the place in the source of a place in the text.
func (m sourceMap) source(out int) int {
	found := 0
	for _, p := range m {
		switch {
		case p.out > out:
			return found
		case p.verbatim:
			found = p.src + out - p.out
		default:
			found = p.src
		}
	}
	return found
}
