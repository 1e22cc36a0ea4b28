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

// teller tells how far work is, not too often.
type teller struct {
	pause time.Duration
	tell  func(n int)
	last  time.Time
}

func (t *teller) at(n int) {
	if time.Since(t.last) >= t.pause {
		t.last = time.Now()
		t.tell(n)
	}
}

// teller returns one that writes what line makes, or calls log where the log is JSON, and what to call when the work is
// done.
func (p *program) teller(line func(n int) string, log func(n int)) (t *teller, done func()) {
	t = &teller{pause: plainPause, last: time.Now(), tell: func(n int) { p.printf("%s\n", line(n)) }}
	switch {
	case p.jsonLog != nil:
		t.tell = log
	case isTerminal(p.err):
		shown := false
		t.pause, t.tell = terminalPause, func(n int) {
			shown = true
			p.printf("\r%s", line(n))
		}
		return t, func() {
			if shown {
				fmt.Fprint(p.err, "\r\x1b[K")
			}
		}
	}
	return t, func() {}
}

// counter counts the lines that are read through it.
type counter struct {
	in io.Reader
	*teller
	lines int
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.lines += bytes.Count(b[:n], []byte{'\n'})
	c.at(c.lines)
	return n, err
}

// progress returns a reader of in, which is a file or "-", that tells on stderr how far it is, where that takes long, and
// what to call when it is done.
func (p *program) progress(in io.Reader, from string) (reader io.Reader, done func()) {
	if from == "-" && isTerminal(os.Stdin) { // a person types it
		return in, func() {}
	}
	t, done := p.teller(
		func(lines int) string { return fmt.Sprintf("read %d lines", lines) },
		func(lines int) { p.jsonLog.Info("reading input", slog.Int("lines", lines)) })
	return &counter{in: in, teller: t}, done
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
