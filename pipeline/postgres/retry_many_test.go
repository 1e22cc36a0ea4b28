package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/dispatch"
)

// The table was not analysed with so much in it, as after a receiver's outage.
func TestAClaimReadsWhatItTakes(t *testing.T) {
	t.Parallel()
	q := newQueue(t, leading(t), 1)
	const parked = 5000
	due := time.Now().Add(-time.Second)
	list := make([]dispatch.Spilled, parked)
	for i := range list {
		list[i] = dispatch.Spilled{Delivery: delivery(strconv.Itoa(i), "o", "a"), NotBefore: due}
	}
	require.NoError(t, q.Spill(t.Context(), list))

	var plan []string
	require.NoError(t, q.inOrder(t.Context(), func(rows pgx.Rows) (err error) {
		plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}, `explain (analyze, timing off) `+claimDue, "observer", int64(1), int64(3), []int64{}, []string{}))
	require.Contains(t, plan[0], "rows=3 ")
	for _, step := range plan {
		require.NotContains(t, step, "rows="+strconv.Itoa(parked))
	}
}
