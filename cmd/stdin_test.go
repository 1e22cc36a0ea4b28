package cmd

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAReadOfStandardInputEndsWithTheContext(t *testing.T) {
	t.Parallel()
	terminal, typist := io.Pipe()
	defer func() { require.NoError(t, typist.Close()) }()
	ctx, interrupt := context.WithCancelCause(t.Context())
	in := untilDone(ctx, terminal)
	go func() { _, _ = typist.Write([]byte("a")) }() // it returns once the byte was read
	b := make([]byte, 10)
	n, err := in.Read(b)
	require.NoError(t, err)
	require.Equal(t, "a", string(b[:n]))
	interrupt(errors.New("interrupt signal received"))
	_, err = in.Read(b) // the typist writes nothing more
	require.ErrorContains(t, err, "interrupt signal received")
}

func TestStandardInputIsReadToItsEndAndNotBefore(t *testing.T) {
	t.Parallel()
	source := strings.NewReader("all of it")
	in := untilDone(t.Context(), source)
	require.Equal(t, 9, source.Len(), "nothing is taken before it is asked for")
	text, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, "all of it", string(text))
}
