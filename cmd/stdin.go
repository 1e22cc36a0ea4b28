package cmd

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"sync"
)

// readerFunc is a function that reads.
type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

var byteOrderMark = []byte("\xef\xbb\xbf") // as some editors and spreadsheets write

// withoutMark returns a reader of r without the byte-order mark that may stand before its text. It takes nothing from r
// before the first Read.
func withoutMark(r io.Reader) io.Reader {
	buffered := bufio.NewReader(r)
	skip := sync.OnceFunc(func() {
		if start, _ := buffered.Peek(len(byteOrderMark)); bytes.Equal(start, byteOrderMark) { // an error shows again in Read
			_, _ = buffered.Discard(len(start)) // they are there
		}
	})
	return readerFunc(func(b []byte) (int, error) {
		skip()
		return buffered.Read(b)
	})
}

// untilDone returns a reader of r whose Read ends with ctx: a read from a terminal or a pipe cannot be interrupted
// otherwise. It takes nothing from r before the first Read, since standard input may belong to a script around the
// program. Its goroutine ends with r, or with the process.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	open := sync.OnceValue(func() io.Reader {
		out, in := io.Pipe()
		go func() {
			_, err := io.Copy(in, r)
			_ = in.CloseWithError(err) // documented to return nil; the first error stays
		}()
		context.AfterFunc(ctx, func() { _ = in.CloseWithError(context.Cause(ctx)) })
		return out
	})
	return readerFunc(func(b []byte) (int, error) { return open().Read(b) })
}
