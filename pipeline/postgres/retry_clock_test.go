package postgres

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/dispatch"
)

// set returns a moment as a process reads it whose wall clock is wrong: its monotonic reading stays.
func set(at time.Time, wrong time.Duration) time.Time {
	const secondsBit = 30 // of the first word of a Time with a monotonic reading
	word := (*uint64)(unsafe.Pointer(&at))
	*word += uint64(int64(wrong/time.Second)) << secondsBit
	return at
}

func TestAWrongClockDoesNotMoveWhatIsParked(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{"an hour ahead": time.Hour, "an hour behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			q := newQueue(t, pool, 1)
			due := set(time.Now().Add(time.Minute), wrong)
			require.InDelta(t, time.Minute, time.Until(due), float64(time.Second), "by the monotonic clock")
			require.NotEqual(t, 0, int(time.Until(due.Round(0)).Minutes())/30, "not by the wall clock")
			require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), due))
			require.NoError(t, q.Spill(t.Context(), []dispatch.Spilled{{Delivery: delivery("2", "o", "a"), NotBefore: due}}))
			var n int
			require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from core.tb_observer_retry
				where not_before between clock_timestamp() + interval '30 seconds' and clock_timestamp() + interval '61 seconds'`).Scan(&n))
			require.Equal(t, 2, n)
		})
	}
}
