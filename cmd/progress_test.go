package cmd

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []int
		slow := readerFunc(func(b []byte) (int, error) {
			<-time.After(4 * time.Second)
			return copy(b, "a\nb\n"), nil
		})
		c := &counter{in: slow, teller: &teller{pause: plainPause, last: time.Now(), tell: func(lines int) { told = append(told, lines) }}}
		for range 6 {
			_, err := c.Read(make([]byte, 8))
			require.NoError(t, err)
		}
		require.Equal(t, []int{6, 12}, told, "every ten seconds")
	})
}

func TestNoProgressIsToldWhereTheWorkIsShort(t *testing.T) {
	t.Parallel()
	var errOut bytes.Buffer
	p := &program{err: &errOut}
	in, done := p.progress(strings.NewReader("1\n2\n"), "file")
	_, err := io.ReadAll(in)
	require.NoError(t, err)
	done()
	require.Empty(t, errOut.String())
}
