package batch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer/internal/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errOdd = errors.New("odd")

// doubler answers after a second with twice the request, and with an error to odd ones.
type doubler struct{ batches [][]int }

func (d *doubler) send(requests []int) []batch.Answer[int] {
	d.batches = append(d.batches, slices.Clone(requests))
	time.Sleep(time.Second) //nolint:forbidigo // of the bubble's clock
	answers := make([]batch.Answer[int], len(requests))
	for i, n := range requests {
		answers[i].Value = 2 * n
		if n%2 == 1 {
			answers[i].Err = errOdd
		}
	}
	return answers
}

func TestWhatIsAskedDuringABatchIsTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doubler
		b := batch.New(4, d.send)
		var all sync.WaitGroup
		for n := range 10 {
			all.Go(func() {
				got, err := b.Do(t.Context(), n)
				require.Equal(t, 2*n, got)
				require.Equal(t, n%2 == 1, errors.Is(err, errOdd))
			})
			synctest.Wait()
		}
		start := time.Now()
		all.Wait()
		b.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7, 8}, {9}}, d.batches)
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestACallerThatGoesHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doubler
		b := batch.New(4, d.send)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := b.Do(ctx, 2)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		got, err := b.Do(t.Context(), 4)
		require.NoError(t, err)
		require.Equal(t, 8, got)
		b.Wait()
		require.Equal(t, [][]int{{2}, {4}}, d.batches)
	})
}
