package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

func TestADeliveryThatWasOnlyClaimedIsNeverBuriedForIt(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	const rows = 4
	q := newQueue(t, pool, 1)
	for i := range rows {
		require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
	}
	require.Len(t, fetchSome(t, q, 10), rows)
	last := ""
	for g := int64(2); g < 2+10; g++ { // something else ends the process, as often as not while another suspect runs
		takeOver(t, pool)
		q = newQueue(t, pool, g)
		if g%2 == 0 {
			items := fetchSome(t, q, 10)
			require.Len(t, items, 1, "one suspect")
			require.NotEqual(t, last, items[0].Msg.UUID)
			require.NoError(t, q.Nack(t.Context(), items[0], 0)) // an outcome
			fetchSome(t, q, 10)                                  // the next suspect, and what was given back
		}
	}
	dead, err := deadLetters(pool).Count(t.Context(), DeadLetterFilter{})
	require.NoError(t, err)
	require.Zero(t, dead)
}

// TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes counts the starts of the one that kills.
func TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes(t *testing.T) {
	t.Parallel()
	for max, want := range map[int]int{1: 2, 2: 2, 3: 3, 5: 5} { // the first start has no mark of its own
		t.Run(strconv.Itoa(max), func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			queue := func(g int64) *RetryQueue {
				q, err := NewRetryQueue(RetryQueueConfig{DB: pool, Listener: "observer", Fence: generation(g), MaxDeliver: max})
				require.NoError(t, err)
				return q
			}
			killer := delivery("killer", "o", "a")
			q := queue(1)
			for i := range 3 {
				require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
			}
			require.NoError(t, q.Park(t.Context(), killer, time.Now()))
			starts := 0
			for g := int64(1); parkedRows(t, pool) > 0; g++ {
				for dead := false; !dead && parkedRows(t, pool) > 0; {
					items := fetchSome(t, q, 10)
					for _, item := range items {
						dead = dead || item.Msg.UUID == killer.Event.ID
					}
					if dead {
						starts++
					} else {
						require.NoError(t, q.Ack(t.Context(), items))
					}
				}
				takeOver(t, pool)
				q = queue(g + 1)
				if starts == want {
					fetchNothing(t, q, 50*time.Millisecond)
					break
				}
			}
			require.Equal(t, want, starts)
			require.Zero(t, parkedRows(t, pool))
			l := onlyDeadLetter(t, deadLetters(pool))
			require.Equal(t, killer.Event.ID, l.EventID)
			require.Equal(t, "poison", l.ErrorClass)
		})
	}
}

func TestASecondStartAsASuspectRunsTrulyAlone(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	require.Len(t, fetchSome(t, q, 10), 1)
	takeOver(t, pool)
	require.Len(t, fetchSome(t, newQueue(t, pool, 2), 10), 1, "started once as a suspect")
	takeOver(t, pool)

	q = newQueue(t, pool, 3)
	require.NoError(t, q.Park(t.Context(), delivery("2", "o", "a"), time.Now()))
	alone := fetchSome(t, q, 10)
	require.Len(t, alone, 1)
	fetchNothing(t, q, 100*time.Millisecond)
	require.NoError(t, q.Ack(t.Context(), alone))
	require.Len(t, fetchSome(t, q, 10), 1)
}

func TestASuspectThatIsParkedAndDueAgainBeforeItsAckLetsTheNextOneRun(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	for _, id := range []string{"1", "2"} {
		require.NoError(t, q.Park(t.Context(), delivery(id, "o", "a"), time.Now()))
	}
	require.Len(t, fetchSome(t, q, 10), 2)
	takeOver(t, pool)
	q = newQueue(t, pool, 2)
	first := fetchSome(t, q, 10)
	require.Len(t, first, 1)
	require.NoError(t, q.Park(t.Context(), event.FromContext(first[0].Msg.Context()), time.Now()))
	again := fetchSome(t, q, 10)
	require.Equal(t, first[0].Msg.UUID, again[0].Msg.UUID)
	require.NoError(t, q.Ack(t.Context(), first))
	require.Len(t, fetchSome(t, q, 10), 1)
}

func TestADeliveryThatCannotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	for name, suspect := range map[string]bool{"suspects": true, "others": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			q := newQueue(t, pool, 1)
			require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now().Add(-time.Second)))
			require.NoError(t, q.Park(t.Context(), delivery("2", "o", "a"), time.Now()))
			if suspect {
				require.Len(t, fetchSome(t, q, 10), 2)
				takeOver(t, pool)
				q = newQueue(t, pool, 2)
			}
			execSQL(t, pool, `update core.tb_observer_retry set event = '[1]' where event ->> 'entity_id' = '1'`)
			items := fetchSome(t, q, 10)
			require.Len(t, items, 1)
			require.NoError(t, q.Ack(t.Context(), items))
			require.Zero(t, parkedRows(t, pool))
			require.Equal(t, "unreadable", onlyDeadLetter(t, deadLetters(pool)).ErrorClass)
		})
	}
}

func TestADeliveryThatCannotBeReadIsBuriedOnceThatWorks(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	db := &flaky{Pool: pool}
	q := queueOver(t, db, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	execSQL(t, pool, `update core.tb_observer_retry set event = '[1]'`)
	db.fail.Store(1) // the dead letter
	_, err := q.Fetch(t.Context(), 10)
	require.ErrorContains(t, err, "connection lost")
	fetchNothing(t, q, 50*time.Millisecond)
	require.Zero(t, parkedRows(t, pool))
	onlyDeadLetter(t, deadLetters(pool))
}
