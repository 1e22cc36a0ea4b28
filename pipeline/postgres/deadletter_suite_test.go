package postgres

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
		pool := leading(t)
		execSQL(t, pool, `update core.tb_observer_lease set owner = 'somebody', expires_at = clock_timestamp() + interval '1 hour'`)
		l := deadLetters(pool)
		return l, l, newQueue(t, pool, 1)
	})
}
