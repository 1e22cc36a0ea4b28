package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/dispatch"
)

// awayQueue answers from the third time on, or never.
type awayQueue struct {
	retryQueue

	asked int
	never bool
}

func (q *awayQueue) Lanes(context.Context) ([]dispatch.Lane, error) {
	if q.asked++; q.asked < 3 || q.never {
		return nil, errors.New("connection refused")
	}
	return []dispatch.Lane{{Observer: "o", Action: "a", Name: "l", Parked: 1}}, nil
}

func TestTheRetryQueueIsWaitedForAtTheStartOfATerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pipeline{log: slog.New(slog.DiscardHandler)}
		require.Len(t, p.parkedLanes(t.Context(), &awayQueue{}), 1)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Empty(t, p.parkedLanes(ctx, &awayQueue{never: true}), "a term that has ended")
	})
}
