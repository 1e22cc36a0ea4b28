package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/middleware"
)

// dedupStore remembers the steps in order and answers what it is told to.
type dedupStore struct {
	claim  middleware.ClaimResult
	others bool // another holds every lease
	took   time.Duration

	mu      sync.Mutex // guards what follows
	err     error
	steps   []string
	owners  []string
	expires time.Time
	record  middleware.DedupKey
}

func (s *dedupStore) step(ctx context.Context, name string, key middleware.DedupKey, owner string) error {
	if s.took > 0 {
		time.Sleep(s.took) //nolint:forbidigo // of the bubble's clock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = key
	s.steps, s.owners = append(s.steps, name), append(s.owners, owner)
	return errors.Join(s.err, ctx.Err())
}

func (s *dedupStore) Claim(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (middleware.ClaimResult, error) {
	s.mu.Lock()
	s.expires = time.Now().Add(lease)
	s.mu.Unlock()
	return s.claim, s.step(ctx, "claim", key, owner)
}

func (s *dedupStore) Renew(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (bool, error) {
	s.mu.Lock()
	if s.err == nil && time.Now().Before(s.expires) {
		s.expires = time.Now().Add(lease)
	}
	s.mu.Unlock()
	return !s.others, s.step(ctx, "renew", key, owner)
}

func (s *dedupStore) Confirm(ctx context.Context, key middleware.DedupKey, owner string, _ time.Duration) (bool, error) {
	return !s.others, s.step(ctx, "confirm", key, owner)
}

func (s *dedupStore) Release(ctx context.Context, key middleware.DedupKey, owner string) error {
	return s.step(ctx, "release", key, owner)
}

func (s *dedupStore) leased() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.expires)
}

func (s *dedupStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Park and Put are steps too, so that their order among the others shows.
func (s *dedupStore) Park(ctx context.Context, _ *event.Delivery, _ time.Time) error {
	return s.step(ctx, "park", s.record, s.owners[0])
}

func (s *dedupStore) Put(ctx context.Context, _ *event.Delivery) error {
	return s.step(ctx, "bury", s.record, s.owners[0])
}

const attemptTime = time.Second

// dedupRig is the rig with deduplication in its chain.
type dedupRig struct {
	*rig
	dedup  dedupStore
	counts metrics.Dedup
	log    bytes.Buffer
}

func newDedupRig() *dedupRig {
	r := &dedupRig{rig: newRig()}
	r.chain.Timeout = 0
	r.use(&r.dedup)
	return r
}

func (r *dedupRig) use(store middleware.DedupStore) {
	r.chain.Dedup = middleware.Dedup(middleware.DedupConfig{
		Store: store, Lease: 2 * attemptTime, Window: time.Minute, Metrics: &r.counts, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
}

func TestOutcomesOfADeduplicatedDelivery(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		store  *dedupStore // nil: one that has nothing against it
		action error
		parks  error // of the stores for what failed
		runs   bool
		nack   error
		steps  []string
		result string
		counts [3]int64 // checks, duplicates, errors
		logs   string
	}{
		"success is confirmed": {
			runs: true, steps: []string{"claim", "confirm"}, result: "success", counts: [3]int64{1, 0, 0},
		},
		"what is done is skipped and acked": {
			store: &dedupStore{claim: middleware.ClaimDone}, steps: []string{"claim"}, result: "duplicate", counts: [3]int64{1, 1, 0},
		},
		"what another holds comes back": {
			store: &dedupStore{claim: middleware.ClaimBusy}, nack: event.ErrBusy, steps: []string{"claim"}, result: "busy", counts: [3]int64{1, 0, 0},
		},
		"a failure that is parked ends the lease": {
			action: boom, runs: true, steps: []string{"claim", "release"}, result: "parked", counts: [3]int64{1, 0, 0},
		},
		"a dead letter ends the lease": {
			action: event.Permanent(boom), runs: true, steps: []string{"claim", "release"}, result: "dead_letter", counts: [3]int64{1, 0, 0},
		},
		"what could not be stored ends the lease": {
			action: boom, parks: errors.New("away"), nack: boom, runs: true, steps: []string{"claim", "release"}, result: "error", counts: [3]int64{1, 0, 0},
		},
		"a store that is away lets everything through, and says so": {
			store: &dedupStore{err: errors.New("connection refused")}, runs: true, steps: []string{"claim", "confirm"}, result: "success", counts: [3]int64{0, 0, 2},
			logs: `level=WARN msg="deliveries are not deduplicated" error="connection refused"`,
		},
		"a failure while the store is away stays a failure": {
			store: &dedupStore{err: errors.New("away")}, action: boom, runs: true, steps: []string{"claim", "release"}, result: "parked", counts: [3]int64{0, 0, 2},
		},
		"a lease that was lost is told": {
			store: &dedupStore{others: true}, runs: true, steps: []string{"claim", "confirm"}, result: "success", counts: [3]int64{1, 0, 0},
			logs: `msg="a delivery outlived its lease and may have run twice" event_id=e observer=o action=a`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDedupRig()
			store := tc.store
			if store == nil {
				store = &dedupStore{}
			}
			r.use(store)
			r.stores.err = tc.parks
			ran := false
			err := r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) {
				ran = true
				return nil, tc.action
			})
			require.ErrorIs(t, err, tc.nack)
			require.Equal(t, tc.runs, ran)
			require.Equal(t, tc.steps, store.steps)
			require.Len(t, slices.Compact(store.owners), 1, "one owner")
			require.Equal(t, middleware.DedupKey{Event: "e", Observer: "o", Action: "a"}, store.record)
			require.InDelta(t, 1, testutil.ToFloat64(r.metrics.Actions.WithLabelValues("o", "a", "test", tc.result)), 0)
			counts := [3]int64{r.counts.Checks.Load(), r.counts.Duplicates.Load(), r.counts.Errors.Load()}
			require.Equal(t, tc.counts, counts)
			require.Contains(t, r.log.String(), tc.logs)
			if tc.logs == "" && store.err == nil {
				require.Empty(t, r.log.String())
			}
		})
	}
}

func TestWhatFailedIsStoredBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	for stored, action := range map[string]error{"park": errors.New("boom"), "bury": event.Permanent(errors.New("boom"))} {
		r := newDedupRig()
		r.chain.RetryQueue, r.chain.DeadLetters = &r.dedup, &r.dedup
		require.NoError(t, r.run(t.Context(), 0, fails(action)))
		require.Equal(t, []string{"claim", stored, "release"}, r.dedup.steps)
	}
}

func TestALeaseIsRenewedWhileItsActionRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		require.NoError(t, r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) {
			for range 100 {
				time.Sleep(attemptTime / 10) //nolint:forbidigo // of the bubble's clock
				require.True(t, r.dedup.leased(), "it never expires")
			}
			return nil, nil
		}))
		renewals := len(r.dedup.steps) - 2
		require.Equal(t, 10*2-1, renewals, "from half the lease on, one each quarter of it")
		require.Equal(t, slices.Concat([]string{"claim"}, slices.Repeat([]string{"renew"}, renewals), []string{"confirm"}), r.dedup.steps)
	})
}

func TestAQuickActionRenewsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		require.NoError(t, r.run(t.Context(), 0, fails(nil)))
		time.Sleep(time.Hour) //nolint:forbidigo // of the bubble's clock
		require.Equal(t, []string{"claim", "confirm"}, r.dedup.steps)
	})
}

func TestARenewalThatIsUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		r.dedup.took = 100 * time.Millisecond
		require.NoError(t, r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) {
			time.Sleep(attemptTime + 50*time.Millisecond) //nolint:forbidigo // of the bubble's clock
			return nil, nil
		}))
		require.Equal(t, []string{"claim", "renew", "confirm"}, r.dedup.steps, "no renewal comes after the confirmation")
		require.Empty(t, r.log.String(), "that it was cut off is no failure")
	})
}

func TestALeaseThatIsLostIsToldWhileTheActionRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		r.dedup.others = true
		require.NoError(t, r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) {
			time.Sleep(10 * attemptTime) //nolint:forbidigo // of the bubble's clock
			return nil, nil
		}))
		require.Equal(t, []string{"claim", "renew", "confirm"}, r.dedup.steps, "it is not renewed again")
		require.Contains(t, r.log.String(), "a delivery still runs while another process holds its lease")
	})
}

func TestARenewalThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		require.NoError(t, r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) {
			r.dedup.fail(errors.New("away"))
			time.Sleep(attemptTime + 10*time.Millisecond) //nolint:forbidigo // of the bubble's clock
			r.dedup.fail(nil)
			time.Sleep(attemptTime / 2) //nolint:forbidigo // of the bubble's clock
			return nil, nil
		}))
		require.Equal(t, []string{"claim", "renew", "renew", "confirm"}, r.dedup.steps)
		require.Contains(t, r.log.String(), "deliveries are deduplicated again")
	})
}

func TestSuccessIsConfirmedWhileTheProcessEnds(t *testing.T) {
	t.Parallel()
	r := newDedupRig()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, r.run(ctx, 0, func(*message.Message) ([]*message.Message, error) {
		cancel()
		return nil, nil
	}))
	require.Equal(t, []string{"claim", "confirm"}, r.dedup.steps)
	require.Zero(t, r.counts.Errors.Load())
}

func TestWhatShutdownCutsOffEndsItsLease(t *testing.T) {
	t.Parallel()
	r := newDedupRig()
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, r.run(ctx, 0, func(msg *message.Message) ([]*message.Message, error) {
		cancel()
		return nil, msg.Context().Err()
	}), context.Canceled)
	require.Equal(t, []string{"claim", "release"}, r.dedup.steps)
	require.Zero(t, r.counts.Errors.Load())
}

func TestAClaimThatShutdownCutsOffDeliversNothing(t *testing.T) {
	t.Parallel()
	r := newDedupRig()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.run(ctx, 0, func(*message.Message) ([]*message.Message, error) {
		t.Error("the action ran")
		return nil, nil
	}), context.Canceled)
	require.Empty(t, r.log.String())
}

func TestAPanicOfAStoreEndsTheLease(t *testing.T) {
	t.Parallel()
	r := newDedupRig()
	r.chain.RetryQueue = nil // parking panics
	require.ErrorContains(t, r.run(t.Context(), 0, fails(errors.New("boom"))), "panic: ")
	require.Equal(t, []string{"claim", "release"}, r.dedup.steps)
}

func TestAStoreThatHangsCostsOneDeliveryASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newDedupRig()
		r.use(middleware.NewDedupBreaker(&r.dedup))
		r.dedup.err, r.dedup.took = errors.New("timeout"), 2*time.Second
		start, runs := time.Now(), 0
		deliver := func() {
			require.NoError(t, r.run(t.Context(), 0, func(*message.Message) ([]*message.Message, error) { runs++; return nil, nil }))
		}
		for range 100 {
			deliver()
		}
		require.Equal(t, 100, runs)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, []string{"claim"}, r.dedup.steps)
		require.NotContains(t, r.log.String(), "a moment ago", "the log tells the cause")

		time.Sleep(time.Second) //nolint:forbidigo // of the bubble's clock
		deliver()
		require.Equal(t, []string{"claim", "claim"}, r.dedup.steps, "one tries")

		r.dedup.err, r.dedup.took = nil, 0
		time.Sleep(time.Second) //nolint:forbidigo // of the bubble's clock
		deliver()
		require.Equal(t, []string{"claim", "claim", "claim", "confirm"}, r.dedup.steps)
		require.Contains(t, r.log.String(), "deliveries are deduplicated again")
	})
}

func TestACallerThatGoesIsNoFailureOfTheStore(t *testing.T) {
	t.Parallel()
	var store dedupStore
	b := middleware.NewDedupBreaker(&store)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Claim(ctx, middleware.DedupKey{}, "me", time.Minute)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, b.Release(t.Context(), middleware.DedupKey{}, "me"))
}
