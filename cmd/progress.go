package cmd

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// How often progress is told.
const (
	terminalPause = time.Second      // on a terminal, in one line that is written anew
	plainPause    = 10 * time.Second // elsewhere, in a line each time
)

// counter tells how many lines were read through it.
type counter struct {
	in    io.Reader
	pause time.Duration
	tell  func(lines int)

	lines int
	last  time.Time
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.lines += bytes.Count(b[:n], []byte{'\n'})
	if time.Since(c.last) >= c.pause {
		c.last = time.Now()
		c.tell(c.lines)
	}
	return n, err
}

// progress returns a reader of in, which is a file or "-", that tells on stderr how far it is, where that takes long, and
// what to call when it is done.
func (p *program) progress(in io.Reader, from string) (reader io.Reader, done func()) {
	if from == "-" && isTerminal(os.Stdin) { // a person types it
		return in, func() {}
	}
	c := &counter{in: in, pause: plainPause, last: time.Now(), tell: func(lines int) { p.printf("read %d lines\n", lines) }}
	switch {
	case p.jsonLog != nil:
		c.tell = func(lines int) { p.jsonLog.Info("reading input", slog.Int("lines", lines)) }
	case isTerminal(p.err):
		shown := false
		c.pause, c.tell = terminalPause, func(lines int) {
			shown = true
			p.printf("\rread %d lines", lines)
		}
		return c, func() {
			if shown {
				fmt.Fprint(p.err, "\r\x1b[K")
			}
		}
	}
	return c, func() {}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
