package memory_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/memory"
)

func delivery(id string) *event.Delivery {
	return &event.Delivery{Event: &event.Event{ID: id, Type: event.Custom, Entity: "Order"}, Observer: "o", Action: "a"}
}

func TestParkedDeliveriesComeBackWhenDueInThatOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, start := memory.NewRetryQueue(), time.Now()
		for _, s := range []int{3, 1, 2} {
			require.NoError(t, q.Park(t.Context(), delivery(strconv.Itoa(s)), start.Add(time.Duration(s)*time.Second)))
		}
		for _, s := range []int{1, 2, 3} {
			items, err := q.Fetch(t.Context(), 10)
			require.NoError(t, err)
			require.Len(t, items, 1)
			require.Equal(t, strconv.Itoa(s), event.FromContext(items[0].Msg.Context()).Event.ID)
			require.Equal(t, time.Duration(s)*time.Second, time.Since(start))
			require.NoError(t, q.Ack(t.Context(), items))
		}
		require.Zero(t, q.Waiting())
	})
}

func TestADeliveryThatIsParkedAgainSurvivesTheAckOfItsAttempt(t *testing.T) {
	q := memory.NewRetryQueue()
	d := delivery("1")
	require.NoError(t, q.Park(t.Context(), d, time.Now()))
	items, err := q.Fetch(t.Context(), 10)
	require.NoError(t, err)
	again := *d
	require.NoError(t, q.Park(t.Context(), &again, time.Now().Add(time.Hour)))
	require.NoError(t, q.Ack(t.Context(), items))
	require.Equal(t, 1, q.Waiting())
}

func TestFetchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := memory.NewRetryQueue().Fetch(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestADeadLetterIsKeptOnce(t *testing.T) {
	var dead memory.DeadLetters
	for range 2 {
		require.NoError(t, dead.Put(t.Context(), delivery("1")))
	}
	require.NoError(t, dead.Put(t.Context(), delivery("2")))
	require.Len(t, dead.List(), 2)
}

func TestTwoDeliveriesOfOneIdentityAreBothWaitedFor(t *testing.T) {
	q := memory.NewRetryQueue()
	for range 2 {
		require.NoError(t, q.Park(t.Context(), delivery("1"), time.Now()))
	}
	items, err := q.Fetch(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, items, 2)
	require.Equal(t, 2, q.Waiting())
	require.NoError(t, q.Ack(t.Context(), items[:1]))
	require.Equal(t, 1, q.Waiting())
	require.NoError(t, q.Nack(t.Context(), items[1], 0))
	require.Equal(t, 1, q.Waiting())
}

func TestManyDeadLettersAreKeptInTimeThatGrowsWithTheirNumber(t *testing.T) {
	var dead memory.DeadLetters
	const n = 100_000 // looking through a list takes half an hour
	for i := range n {
		require.NoError(t, dead.Put(t.Context(), delivery(strconv.Itoa(i))))
	}
	require.NoError(t, dead.Put(t.Context(), delivery("7")))
	require.Len(t, dead.List(), n)
}
