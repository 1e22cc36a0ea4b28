package outage_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/outage"
)

func TestAnOutageIsToldAtItsBeginningNowAndThenAndAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := outage.New(slog.New(slog.NewTextHandler(&out, nil)), "no answer", "it answers again", "server", "one")
		l.OK() // nothing was wrong
		for range 350 {
			l.Failed(errors.New("refused"))
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		}
		l.OK()
		l.OK()
		l.Failed(errors.New("again"))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 4)
		require.Contains(t, lines[0], `level=WARN msg="no answer" server=one error=refused duration=0s repeated=0`)
		require.Contains(t, lines[1], `duration=30s repeated=299`)
		require.Contains(t, lines[2], `level=INFO msg="it answers again" server=one duration=35s`)
		require.Contains(t, lines[3], `error=again duration=0s repeated=0`)
	})
}
