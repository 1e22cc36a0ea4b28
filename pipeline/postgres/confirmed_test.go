package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestAStreamIsLostWhenItIsAnotherOneOrShorter(t *testing.T) {
	t.Parallel()
	created := time.Now()
	was := StreamMark{created, 10}
	for name, test := range map[string]struct {
		now  StreamMark
		lost bool
	}{
		"it is as it was": {StreamMark{created, 10}, false},
		"it went on":      {StreamMark{created, 11}, false},
		"it comes from where times are less exact": {StreamMark{created.Truncate(time.Microsecond), 10}, false},
		"it went back":         {StreamMark{created, 9}, true},
		"it was created again": {StreamMark{created.Add(time.Second), 11}, true},
	} {
		require.Equal(t, test.lost, was.Lost(test.now), name)
	}
}

// TestAStreamIsRefilledFromWhatWasConfirmed publishes six events, of which the workers have settled the first three.
func TestAStreamIsRefilledFromWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	confirmed := &Confirmed{DB: h.pool, Lease: lease, Name: h.cfg.ListenerName}
	_, found, err := confirmed.Mark(t.Context())
	require.NoError(t, err)
	require.False(t, found)

	r := h.reader(lease)
	r.none()
	h.emit(1, 3)
	items := r.take(3)
	r.ack(items[0], items[2])
	h.storedPending(1)
	position, err := confirmed.Published(t.Context())
	require.NoError(t, err)
	first := StreamMark{time.Unix(1_700_000_000, 123_456_789), 3}
	require.NoError(t, confirmed.Confirm(t.Context(), position, first))
	r.ack(items[1])
	h.emit(4, 6)
	r.ack(r.take(3)...)
	h.storedPending(0)
	require.NoError(t, confirmed.Note(t.Context(), StreamMark{first.Created, 6}))
	stored, found, err := confirmed.Mark(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.False(t, stored.Lost(StreamMark{first.Created, 6}), "the stream tells nanoseconds, Postgres keeps microseconds")
	require.EqualValues(t, 6, stored.Sequence)

	second := StreamMark{first.Created.Add(time.Hour), 0}
	require.True(t, stored.Lost(second))
	require.NoError(t, confirmed.Refill(t.Context(), second))
	again := r.take(4) // the reader that runs follows
	require.Equal(t, []string{"2", "4", "5", "6"}, keys(again), "what was pending at the confirmation, and what came after it")
	r.ack(again...)
	r.none()
	stored, _, err = confirmed.Mark(t.Context())
	require.NoError(t, err)
	require.False(t, stored.Lost(second))
}

func TestTheLogKeepsWhatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	confirmed := &Confirmed{DB: h.pool, Lease: lease, Name: h.cfg.ListenerName}
	position, err := confirmed.Published(t.Context())
	require.NoError(t, err)
	require.NoError(t, confirmed.Confirm(t.Context(), position, StreamMark{Created: time.Now()}))
	h.emit(1, 2)
	r.ack(r.take(2)...)
	h.storedPending(0)
	tomorrow := time.Now().Add(24 * time.Hour)
	n, err := DeleteOldRows(t.Context(), h.pool, tomorrow)
	require.NoError(t, err)
	require.Zero(t, n, "published, and not confirmed")
	testenv.Eventually(t, 5*time.Second, func() error { // the position moves when the window that held them is over
		position, err := confirmed.Published(t.Context())
		require.NoError(t, err)
		require.NoError(t, confirmed.Confirm(t.Context(), position, StreamMark{Created: time.Now(), Sequence: 2}))
		if n, err = DeleteOldRows(t.Context(), h.pool, tomorrow); n < 2 {
			return fmt.Errorf("%d rows were deleted: %w", n, errors.Join(err, errors.New("too few")))
		}
		return err
	})
}

func TestADeposedBridgeConfirmsNothing(t *testing.T) {
	t.Parallel()
	h := newTestRig(t)
	lease := h.acquire()
	r := h.reader(lease)
	r.none()
	confirmed := &Confirmed{DB: h.pool, Lease: lease, Name: h.cfg.ListenerName}
	position, err := confirmed.Published(t.Context())
	require.NoError(t, err)
	h.exec(`update core.tb_observer_lease set generation = generation + 1`)
	require.Error(t, confirmed.Confirm(t.Context(), position, StreamMark{Created: time.Now()}))
	_, found, err := confirmed.Mark(t.Context())
	require.NoError(t, err)
	require.False(t, found)
}
