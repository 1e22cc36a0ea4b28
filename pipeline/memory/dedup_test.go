package memory_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/middleware/deduptest"
	"github.com/fraiseql/observer/pipeline/memory"
)

func TestDedupStore(t *testing.T) {
	var store memory.Dedup
	deduptest.Run(t, &store, &store, func(*testing.T) { store.Forget() })
}

func TestDedupForgetsWhatHasExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var store memory.Dedup
		for i := range 100_000 {
			key := middleware.DedupKey{Event: strconv.Itoa(i)}
			_, err := store.Confirm(t.Context(), key, "a", time.Second)
			require.NoError(t, err)
			time.Sleep(time.Millisecond) //nolint:forbidigo // of the bubble's clock
		}
		require.Less(t, store.Len(), 10_000)
	})
}
