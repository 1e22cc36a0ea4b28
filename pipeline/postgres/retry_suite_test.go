package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/retrytest"
)

func TestRetryQueueSuite(t *testing.T) {
	t.Parallel()
	retrytest.Run(t, func(t *testing.T) func() retrytest.Queue {
		t.Helper()
		pool := leading(t)
		g := int64(0)
		return func() retrytest.Queue {
			if g++; g > 1 {
				takeOver(t, pool)
			}
			q, err := NewRetryQueue(RetryQueueConfig{DB: pool, Listener: "observer", Fence: generation(g), MaxDeliver: 3})
			require.NoError(t, err)
			return q
		}
	})
}
