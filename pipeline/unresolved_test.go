package pipeline

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeadLettersThatWaitAreToldOfOnceADay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		n      int
		oldest time.Duration
		err    error
		want   int // lines in two and a half days
	}{
		"few and young":       {1000, 7 * 24 * time.Hour, nil, 0},
		"many":                {1001, time.Minute, nil, 3},
		"one that is old":     {1, 7*24*time.Hour + 1, nil, 3},
		"a server that fails": {5000, 0, errors.New("away"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				p := &Pipeline{log: slog.New(slog.NewTextHandler(&log, nil))}
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Hour)
				defer cancel()
				p.watchDeadLetters(ctx, func(context.Context) (int, time.Duration, error) { return tc.n, tc.oldest, tc.err })
				require.Equal(t, tc.want, strings.Count(log.String(), "level=WARN"))
				if tc.err == nil {
					require.EqualValues(t, tc.oldest, p.stats.deadAge.Load())
				}
			})
		})
	}
}
