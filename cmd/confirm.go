package cmd

import (
	"bufio"
	"errors"
	"os"
	"strings"
)

var errDeclined = errors.New("nothing was changed")

// confirm asks a person at a terminal; elsewhere the answer stands on the command line, as yes. Its error says that there
// was no yes.
func (p *program) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !p.interactive() {
		return usagef("this changes many dead letters: add --yes to do it, or --dry-run to see which")
	}
	p.printf("%s [y/N] ", question)
	answer, _ := bufio.NewReader(p.in).ReadString('\n') // an end of input is a no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// interactive reports whether a person can answer. The device that stands for no input looks like a terminal.
func (p *program) interactive() bool {
	if p.atTerminal != nil {
		return p.atTerminal()
	}
	in, err := os.Stdin.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && isTerminal(os.Stdin) && (nullErr != nil || !os.SameFile(in, null))
}
