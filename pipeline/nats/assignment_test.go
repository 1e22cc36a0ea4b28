package nats

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// settleShares lets each member in turn give up and claim until nothing changes, and returns how many partitions were given up.
func settleShares(t *testing.T, a assignment, members []string) (given int) {
	t.Helper()
	for range 10 {
		changed := false
		for _, m := range members {
			share := a.share(m, members)
			for own := a.of(m); len(own) > share; own = own[1:] {
				a[own[0]] = ""
				given++
				changed = true
			}
			before := len(a.of(m))
			a.claim(m, share)
			changed = changed || len(a.of(m)) != before
		}
		if !changed {
			return given
		}
	}
	t.Fatalf("%v do not come to rest: %v", members, a)
	return 0
}

func TestPartitionsAreSharedEquallyAndFewChangeHands(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2, 12, 64, 256} {
		a := make(assignment, partitions)
		var members []string
		for i := range 7 { // one joins after the other
			members = append(members, fmt.Sprintf("m%d", i))
			given := settleShares(t, a, members)
			require.LessOrEqual(t, given, partitions/len(members)+1, "%d of %d change hands when the %dth joins", given, partitions, len(members))
			requireEqualShares(t, a, members)
		}
		for len(members) > 1 { // one dies after the other
			a = a.without(map[string]bool{members[0]: true})
			members = members[1:]
			require.LessOrEqual(t, settleShares(t, a, members), 1, "those that live keep what they have")
			requireEqualShares(t, a, members)
		}
	}
}

func requireEqualShares(t *testing.T, a assignment, members []string) {
	t.Helper()
	require.Empty(t, a.of(""), "nobody's")
	for _, m := range members {
		require.GreaterOrEqual(t, len(a.of(m)), len(a)/len(members))
		require.LessOrEqual(t, len(a.of(m)), (len(a)+len(members)-1)/len(members))
	}
}
