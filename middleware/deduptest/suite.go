// Package deduptest is the conformance suite of middleware.DedupStore: every store runs it.
package deduptest

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/middleware"
)

const (
	long     = time.Minute
	short    = 50 * time.Millisecond
	patience = 20 * time.Second
	poll     = 5 * time.Millisecond
)

// Run runs the suite against a store and another opening of it, as another process has. forget makes the store lose
// everything, as FLUSHALL does; no other test may use it at the same time, so the caller does not run in parallel.
func Run(t *testing.T, store, other middleware.DedupStore, forget func(*testing.T)) {
	t.Helper()
	t.Run("what the store has lost is free, and its owner gets it back", func(t *testing.T) { loses(t, rig{t, store}, forget) })
	t.Run("of two owners that race exactly one wins", func(t *testing.T) { race(t, store, other) })
	for name, test := range map[string]func(*testing.T, rig){
		"a claim is busy for others until it is released":         released,
		"what is confirmed is done":                               done,
		"a claim, a confirmation and a release may be repeated":   repeats,
		"a lease that expires is free":                            expires,
		"a lease that is renewed is not":                          renewed,
		"what is done is forgotten after its window":              forgotten,
		"only the owner renews and releases":                      owned,
		"who lost the lease and was done says so, and it counts":  lost,
		"a replay passes what is done and waits for what is held": replays,
		"an earlier generation is done with a later one":          earlier,
		"keys that differ in one part differ":                     keys,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, rig{t, store})
		})
	}
}

// rig asks a store and fails the test on an error.
type rig struct {
	t     *testing.T
	store middleware.DedupStore
}

func newKey() middleware.DedupKey {
	return middleware.DedupKey{Event: rand.Text(), Observer: "order-shipped", Action: "notify"}
}

func (r rig) claim(key middleware.DedupKey, owner string, lease time.Duration) middleware.ClaimResult {
	r.t.Helper()
	result, err := r.store.Claim(r.t.Context(), key, owner, lease)
	require.NoError(r.t, err)
	return result
}

func (r rig) renew(key middleware.DedupKey, owner string, lease time.Duration) bool {
	r.t.Helper()
	held, err := r.store.Renew(r.t.Context(), key, owner, lease)
	require.NoError(r.t, err)
	return held
}

func (r rig) confirm(key middleware.DedupKey, owner string, window time.Duration) bool {
	r.t.Helper()
	held, err := r.store.Confirm(r.t.Context(), key, owner, window)
	require.NoError(r.t, err)
	return held
}

func (r rig) release(key middleware.DedupKey, owner string) {
	r.t.Helper()
	require.NoError(r.t, r.store.Release(r.t.Context(), key, owner))
}

// takeOver claims for b again and again, and returns how long it took.
func (r rig) takeOver(key middleware.DedupKey) time.Duration {
	r.t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for r.claim(key, "b", long) != middleware.Claimed {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(r.t, "still not free")
		}
	}
	return time.Since(start)
}

func loses(t *testing.T, r rig, forget func(*testing.T)) {
	t.Helper()
	key, finished := newKey(), newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.Equal(t, middleware.Claimed, r.claim(finished, "a", long))
	require.True(t, r.confirm(finished, "a", long))
	forget(t)
	require.True(t, r.renew(key, "a", long), "nobody else took it")
	require.Equal(t, middleware.ClaimBusy, r.claim(key, "b", long))
	require.Equal(t, middleware.Claimed, r.claim(finished, "b", long), "a duplicate more, never a delivery less")
	forget(t)
	require.True(t, r.confirm(key, "a", long))
	require.Equal(t, middleware.ClaimDone, r.claim(key, "b", long))
}

func released(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.Equal(t, middleware.ClaimBusy, r.claim(key, "b", long))
	r.release(key, "a")
	require.Equal(t, middleware.Claimed, r.claim(key, "b", long))
}

func done(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.True(t, r.confirm(key, "a", long))
	require.Equal(t, middleware.ClaimDone, r.claim(key, "b", long))
	require.Equal(t, middleware.ClaimDone, r.claim(key, "a", long))
	r.release(key, "a")
	require.Equal(t, middleware.ClaimDone, r.claim(key, "b", long), "a late release changes nothing")
}

func repeats(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	for range 2 {
		require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	}
	for range 2 {
		require.True(t, r.confirm(key, "a", long))
	}
	key = newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	for range 2 {
		r.release(key, "a")
	}
}

func expires(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", short))
	r.takeOver(key)
	require.Equal(t, middleware.ClaimBusy, r.claim(key, "a", long))
}

func renewed(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.True(t, r.renew(key, "a", 4*short))
	require.Greater(t, r.takeOver(key), 2*short, "the renewal counts from its own time")
}

func forgotten(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.True(t, r.confirm(key, "a", short))
	r.takeOver(key)
}

func owned(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.False(t, r.renew(key, "b", long))
	r.release(key, "b")
	require.Equal(t, middleware.ClaimBusy, r.claim(key, "b", long))
	require.True(t, r.renew(key, "a", long))
}

func lost(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	require.Equal(t, middleware.Claimed, r.claim(key, "a", short))
	r.takeOver(key)
	require.False(t, r.confirm(key, "a", long), "b may run it a second time")
	require.Equal(t, middleware.ClaimDone, r.claim(key, "c", long))
	require.False(t, r.renew(key, "b", long))
	r.release(key, "b")
	require.Equal(t, middleware.ClaimDone, r.claim(key, "c", long))
	require.False(t, r.confirm(key, "b", long))
}

func replays(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	replay := key
	replay.Generation = 1
	require.Equal(t, middleware.Claimed, r.claim(key, "a", long))
	require.Equal(t, middleware.ClaimBusy, r.claim(replay, "b", long))
	require.Equal(t, middleware.ClaimBusy, r.claim(replay, "a", long), "one owner's other generation is another run")
	require.True(t, r.confirm(key, "a", long))
	require.Equal(t, middleware.Claimed, r.claim(replay, "b", long))
	require.Equal(t, middleware.ClaimBusy, r.claim(key, "c", long))
	require.True(t, r.confirm(replay, "b", long))
	require.Equal(t, middleware.ClaimDone, r.claim(replay, "c", long))
}

func earlier(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	tenth := key
	key.Generation, tenth.Generation = 9, 10
	require.Equal(t, middleware.Claimed, r.claim(key, "a", short))
	r.takeOver(tenth)
	require.False(t, r.confirm(key, "a", long), "the later one keeps its lease")
	require.Equal(t, middleware.ClaimBusy, r.claim(tenth, "c", long))
	require.True(t, r.confirm(tenth, "b", long))
	require.False(t, r.confirm(key, "a", long))
	require.Equal(t, middleware.ClaimDone, r.claim(tenth, "c", long))
	require.Equal(t, middleware.ClaimDone, r.claim(key, "c", long))
}

func keys(t *testing.T, r rig) {
	t.Helper()
	key := newKey()
	other, observer, action := key, key, key
	other.Event, observer.Observer, action.Action = rand.Text(), "other", "other"
	for _, k := range []middleware.DedupKey{key, other, observer, action} {
		require.Equal(t, middleware.Claimed, r.claim(k, "a", long))
	}
}

// race lets two owners claim the same thousand deliveries, many at a time, in opposite orders.
func race(t *testing.T, stores ...middleware.DedupStore) {
	t.Helper()
	const claims, lanes = 1000, 16
	event := rand.Text()
	won := make([]atomic.Int32, claims)
	errs := make([]error, len(stores)*lanes)
	var all sync.WaitGroup
	for n := range errs {
		owner, lane := n/lanes, n%lanes
		all.Go(func() {
			for step := lane; step < claims; step += lanes {
				i := step
				if owner == 1 {
					i = claims - 1 - step
				}
				key := middleware.DedupKey{Event: event + strconv.Itoa(i), Observer: "o", Action: "a"}
				result, err := stores[owner].Claim(t.Context(), key, "owner "+strconv.Itoa(owner), long)
				errs[n] = errors.Join(errs[n], err)
				if result == middleware.Claimed && err == nil {
					won[i].Add(1)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	for i := range won {
		require.EqualValues(t, 1, won[i].Load(), "claim %d", i)
	}
}
