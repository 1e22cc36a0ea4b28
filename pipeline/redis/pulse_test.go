package redis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAServerIsSteadyOnceEveryoneCouldRenew(t *testing.T) {
	t.Parallel()
	const ackWait = 30 * time.Second
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	tests := map[string]struct {
		beats  []int
		now    int
		steady bool
	}{
		"from the start":                         {nil, 5, true},
		"renewing all the time":                  {[]int{10, 20, 30, 40}, 45, true},
		"one renewal came late":                  {[]int{10, 29}, 30, true},
		"no renewal for long":                    {[]int{10, 20}, 41, false},
		"just back after an outage":              {[]int{10, 100}, 101, false},
		"back, others may not have renewed yet":  {[]int{10, 100, 110, 120}, 129, false},
		"back for as long as others may be mute": {[]int{10, 100, 110, 120}, 130, true},
		"away again in between":                  {[]int{10, 100, 110, 140}, 145, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pulse
			p.begin(start)
			for _, beat := range test.beats {
				p.beat(at(beat), ackWait)
			}
			require.Equal(t, test.steady, p.steady(at(test.now), ackWait))
		})
	}
}
