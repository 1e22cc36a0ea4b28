package redis_test

import (
	"testing"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
	"github.com/fraiseql/observer/pipeline/deadletter/deadlettertest"
	"github.com/fraiseql/observer/pipeline/retrytest"
)

func TestDeadLettersSuite(t *testing.T) {
	t.Parallel()
	deadlettertest.Run(t, func(t *testing.T) (deadletter.Store, middleware.DeadLetters, retrytest.Queue) {
		t.Helper()
		_, _, letters, queue := store(t)
		return letters, letters, queue
	})
}

func TestRetryQueueSuite(t *testing.T) {
	t.Parallel()
	retrytest.Run(t, func(t *testing.T) func() retrytest.Queue {
		t.Helper()
		client, stream, _, _ := store(t)
		return func() retrytest.Queue { return newQueue(t, client, stream) }
	})
}
