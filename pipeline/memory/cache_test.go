package memory_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/middleware/resultstest"
	"github.com/fraiseql/observer/pipeline/memory"
)

func TestResultsConform(t *testing.T) {
	t.Parallel()
	resultstest.Run(t, memory.NewResults())
}

func TestResultsGoExactlyWhenTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory.NewResults()
		require.NoError(t, r.Put(t.Context(), "key", time.Minute))
		for _, step := range []struct {
			wait time.Duration
			want bool
		}{{time.Minute - 1, true}, {1, false}} {
			<-time.After(step.wait)
			there, err := r.Has(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, step.want, there)
		}
	})
}

func TestResultsKeepTheLatest(t *testing.T) {
	t.Parallel()
	const limit = 20_000
	r := memory.NewResults()
	put := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, r.Put(t.Context(), strconv.Itoa(i), time.Hour))
		}
	}
	has := func(i int) bool {
		there, err := r.Has(t.Context(), strconv.Itoa(i))
		require.NoError(t, err)
		return there
	}
	put(0, limit)
	require.True(t, has(0))
	put(0, 1) // anew: it is the latest now
	put(limit, limit+1)
	require.True(t, has(0))
	require.False(t, has(1), "the one that was put first makes room")
	require.True(t, has(2))
	require.True(t, has(limit))
}
