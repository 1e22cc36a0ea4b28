package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

func TestADeliveryThatWasOnlyClaimedIsNeverBuriedForIt(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 3; limit++ {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			q := queueWith(t, pool, 1, limit)
			for i := range 4 {
				require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(i), "o", "a"), time.Now()))
			}
			require.Len(t, fetchSome(t, q, 10), 4)
			for g := int64(2); g <= 10; g += 2 { // every other process ends before it hands anything out
				takeOver(t, pool)
				takeOver(t, pool)
				q = queueWith(t, pool, g+1, limit)
				require.NotEmpty(t, fetchSome(t, q, 10)) // one suspect at most, and what was given back
				require.NoError(t, q.Close(t.Context()), "a clean end")
			}
			require.Equal(t, 4, parkedRows(t, pool))
		})
	}
}

func queueWith(t *testing.T, pool *pgxpool.Pool, g int64, maxDeliver int) *RetryQueue {
	t.Helper()
	q, err := NewRetryQueue(RetryQueueConfig{DB: pool, Listener: "observer", Fence: generation(g), MaxDeliver: maxDeliver})
	require.NoError(t, err)
	return q
}

// TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes counts the starts of the one that kills.
func TestADeliveryThatEndsTheProcessEachTimeStartsThreeTimes(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{1: 2, 2: 2, 3: 3, 5: 5} { // the first start has no mark of its own
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			pool := leading(t)
			killer := delivery("killer", "o", "a")
			q := queueWith(t, pool, 1, limit)
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
				q = queueWith(t, pool, g+1, limit)
				if starts == want {
					break
				}
			}
			require.Equal(t, want, starts)
			items := fetchSome(t, q, 10)
			require.Len(t, items, 1)
			require.Equal(t, killer.Event.ID, items[0].Msg.UUID)
			require.Equal(t, "poison", items[0].Msg.Metadata.Get(window.MetadataPoisonClass))
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
			var classes []string
			for len(classes) < 2 { // of suspects one at a time
				items := fetchSome(t, q, 10)
				for _, item := range items {
					classes = append(classes, item.Msg.Metadata.Get(window.MetadataPoisonClass))
				}
				require.NoError(t, q.Ack(t.Context(), items))
			}
			require.Equal(t, []string{"unreadable", ""}, classes)
		})
	}
}

func TestADeliveryThatCannotBeReadWaitsForADeadLetterThatCanBeStored(t *testing.T) {
	t.Parallel()
	pool := leading(t)
	q := newQueue(t, pool, 1)
	require.NoError(t, q.Park(t.Context(), delivery("1", "o", "a"), time.Now()))
	execSQL(t, pool, `update core.tb_observer_retry set event = '[1]'`)
	for range 2 {
		items := fetchSome(t, q, 10)
		require.Len(t, items, 1)
		require.True(t, isPoison(items[0]))
		require.NoError(t, q.Nack(t.Context(), items[0], 0))
	}
}
