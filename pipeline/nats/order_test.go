package nats

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestAConsumerThatWasMadeAgainCountsAnew deletes it while a delivery of it is missing: that one is never asked for again.
func TestAConsumerThatWasMadeAgainCountsAnew(t *testing.T) {
	t.Parallel()
	o, made := newOrder(), time.Now()
	o.numberedBy(made)
	for n := range uint64(3) {
		o.admit(jetstream.SequencePair{Consumer: n + 1, Stream: n + 1})
	}
	require.True(t, o.mended(3, 3, time.Hour))
	o.admit(jetstream.SequencePair{Consumer: 6, Stream: 6})
	o.numberedBy(made)
	require.False(t, o.mended(0, 0, 0), "an answer that is older than the delivery")
	o.numberedBy(made.Add(time.Second))
	require.False(t, o.mended(0, 0, time.Hour), "what is held may come again")
	require.True(t, o.mended(0, 0, 0))
	o.admit(jetstream.SequencePair{Consumer: 1, Stream: 1})
	require.True(t, o.mended(1, 1, 0), "what was held before counts still")
}
