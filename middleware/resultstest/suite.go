// Package resultstest is the conformance suite of a [middleware.ResultStore]. Every store runs it.
package resultstest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/middleware"
)

// Run runs the suite on a store, which may be one that others use: its keys are of its own.
func Run(t *testing.T, store middleware.ResultStore) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, middleware.ResultStore){
		"a key is there once it was put, and no other": remembers,
		"a key goes when its time is over":             expires,
		"a key that is put again has its time anew":    renews,
		"many use it at the same time":                 isShared,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, store)
		})
	}
}

func newKey() string { return "action_result:" + watermill.NewUUID() }

func remembers(t *testing.T, store middleware.ResultStore) {
	t.Helper()
	key := newKey()
	requireKey(t, store, key, false)
	require.NoError(t, store.Put(t.Context(), key, time.Hour))
	requireKey(t, store, key, true)
	requireKey(t, store, key+"0", false)
	requireKey(t, store, newKey(), false)
}

func expires(t *testing.T, store middleware.ResultStore) {
	t.Helper()
	short, long := newKey(), newKey()
	require.NoError(t, store.Put(t.Context(), long, time.Hour))
	require.NoError(t, store.Put(t.Context(), short, time.Second))
	requireKey(t, store, short, true)
	require.NoError(t, gone(t.Context(), store, short, 10*time.Second))
	requireKey(t, store, long, true)
}

func renews(t *testing.T, store middleware.ResultStore) {
	t.Helper()
	key, other := newKey(), newKey()
	require.NoError(t, store.Put(t.Context(), key, time.Second))
	require.NoError(t, store.Put(t.Context(), other, time.Second))
	require.NoError(t, store.Put(t.Context(), key, time.Hour))
	require.NoError(t, gone(t.Context(), store, other, 10*time.Second))
	requireKey(t, store, key, true)
}

func isShared(t *testing.T, store middleware.ResultStore) {
	t.Helper()
	prefix := newKey()
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 50 {
				key := prefix + strconv.Itoa(worker*50+i)
				if err := store.Put(t.Context(), key, time.Hour); err != nil {
					t.Errorf("put: %v", err)
				}
				if there, err := store.Has(t.Context(), key); !there || err != nil {
					t.Errorf("%s is not there: %v", key, err)
				}
			}
		})
	}
	all.Wait()
}

func requireKey(t *testing.T, store middleware.ResultStore, key string, want bool) {
	t.Helper()
	there, err := store.Has(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, there, key)
}

// gone waits until key is not there.
func gone(ctx context.Context, store middleware.ResultStore, key string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := store.Has(ctx, key)
		if err != nil || !there {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("the key is still there")
		case <-tick.C:
		}
	}
}
