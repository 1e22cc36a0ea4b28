package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// resultStore remembers for ever; the errors make it fail, and hang makes it wait for the end of the caller's patience.
type resultStore struct {
	mu               sync.Mutex // guards what follows
	keys             map[string]time.Duration
	hasErr, putErr   error
	hang             bool
	hasCalls, putted int
}

func (s *resultStore) Has(ctx context.Context, key string) (bool, error) {
	s.mu.Lock()
	s.hasCalls++
	_, there := s.keys[key]
	err, hang := s.hasErr, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return there, err
}

func (s *resultStore) Put(ctx context.Context, key string, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putted++
	if err := errors.Join(ctx.Err(), s.putErr); err != nil {
		return err
	}
	if s.keys == nil {
		s.keys = map[string]time.Duration{}
	}
	s.keys[key] = ttl
	return nil
}

// cacheRig is a chain around a cacheable action.
type cacheRig struct {
	*rig
	store        resultStore
	hits, misses atomic.Int32
	fingerprint  func(*event.Delivery) ([]byte, error)
}

func newCacheRig(t *testing.T) *cacheRig {
	t.Helper()
	r := &cacheRig{rig: newRig(), fingerprint: func(*event.Delivery) ([]byte, error) { return []byte("POST https://x"), nil }}
	results, err := middleware.NewResults(middleware.ResultsConfig{
		Store: &r.store, TTL: time.Minute, Log: r.chain.Log,
		Look: func(hit bool) {
			if hit {
				r.hits.Add(1)
			} else {
				r.misses.Add(1)
			}
		},
	})
	require.NoError(t, err)
	r.chain.Results = results
	r.chain.CacheKey = middleware.DeliveryKey(func(d *event.Delivery) ([]byte, error) { return r.fingerprint(d) })
	return r
}

// counted is an action that counts its runs and ends with the errors, one after the other, and then with success.
func counted(errs ...error) (message.HandlerFunc, *atomic.Int32) {
	var runs atomic.Int32
	return func(*message.Message) ([]*message.Message, error) {
		if n := int(runs.Add(1)); n <= len(errs) {
			return nil, errs[n-1]
		}
		return nil, nil
	}, &runs
}

func TestWhatSucceededLatelyIsSkipped(t *testing.T) {
	boom, away := errors.New("boom"), errors.New("away")
	for name, tc := range map[string]struct {
		outcomes                                  []error // of the first runs
		uncached                                  bool
		hasErr, putErr, printErr                  error
		runs, hits, misses, parked, dead, remains int
		logs                                      string
	}{
		"the identical action is":                       {runs: 1, hits: 2, misses: 1, remains: 1},
		"an action that is not cacheable is not":        {uncached: true, runs: 3},
		"an action that failed is not":                  {outcomes: []error{boom}, runs: 2, hits: 1, misses: 2, parked: 1, remains: 1},
		"an action that failed for good is not":         {outcomes: []error{event.Permanent(boom)}, runs: 2, hits: 1, misses: 2, dead: 1, remains: 1},
		"an action that another worker holds is not":    {outcomes: []error{event.ErrBusy}, runs: 2, hits: 1, misses: 2, remains: 1},
		"nothing is while the store cannot be read":     {hasErr: away, runs: 3, misses: 3, remains: 1, logs: `level=WARN msg="cached results cannot be read, every action runs" error=away`},
		"nothing is while the store cannot be written":  {putErr: away, runs: 3, misses: 3, logs: `level=WARN msg="results cannot be cached, identical actions run again" error=away`},
		"nothing is of which the request is not known":  {printErr: boom, runs: 3},
		"nothing is that failed and cannot be rendered": {printErr: boom, outcomes: []error{event.Permanent(boom)}, runs: 3, dead: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCacheRig(t)
			r.store.hasErr, r.store.putErr = tc.hasErr, tc.putErr
			if tc.printErr != nil {
				r.fingerprint = func(*event.Delivery) ([]byte, error) { return nil, tc.printErr }
			}
			if tc.uncached {
				r.chain.CacheKey = nil
			}
			action, runs := counted(tc.outcomes...)
			for range 3 {
				if err := r.run(t.Context(), 0, action); err != nil {
					require.ErrorIs(t, err, event.ErrBusy)
				}
			}
			require.EqualValues(t, tc.runs, runs.Load(), "runs")
			require.EqualValues(t, tc.hits, r.hits.Load(), "hits")
			require.EqualValues(t, tc.misses, r.misses.Load(), "misses")
			require.Len(t, r.stores.parked, tc.parked)
			require.Len(t, r.stores.dead, tc.dead)
			require.Len(t, r.store.keys, tc.remains)
			for _, ttl := range r.store.keys {
				require.Equal(t, time.Minute, ttl)
			}
			require.Contains(t, r.log.String(), tc.logs)
		})
	}
}

func TestAParkedDeliveryIsSkippedWhenItsLikeSucceededMeanwhile(t *testing.T) {
	r := newCacheRig(t)
	action, runs := counted(errors.New("boom"))
	require.NoError(t, r.run(t.Context(), 0, action))
	require.NoError(t, r.run(t.Context(), 0, action))
	require.NoError(t, r.run(t.Context(), 2, action), "the cache stands outside retry")
	require.EqualValues(t, 2, runs.Load())
	require.Len(t, r.stores.parked, 1)
}

func TestASuccessIsRememberedThoughTheShutdownEndsItsContext(t *testing.T) {
	r := newCacheRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, r.run(ctx, 0, func(*message.Message) ([]*message.Message, error) {
		cancel()
		return nil, nil
	}))
	require.Len(t, r.store.keys, 1)
}

// cached is an action behind the cache, under one key.
func (r *cacheRig) cached(action message.HandlerFunc) func(ctx context.Context) error {
	handler := middleware.Cache(r.chain.Results, func(*message.Message) (string, error) { return "key", nil })(action)
	return func(ctx context.Context) error {
		_, err := handler(message.NewMessageWithContext(ctx, "e", nil))
		return err
	}
}

func TestOfIdenticalActionsAtTheSameTimeOneRuns(t *testing.T) {
	for name, tc := range map[string]struct {
		first      func() error
		runs, hits int
		failed     int
		took       time.Duration
	}{
		"and the others wait for its success":     {func() error { return nil }, 1, 9, 0, time.Second},
		"and the others run when it has failed":   {func() error { return errors.New("boom") }, 10, 0, 1, 2 * time.Second}, // side by side
		"and the others run when it has panicked": {func() error { panic("oh") }, 10, 0, 1, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, start := newCacheRig(t), time.Now()
				var runs, failed atomic.Int32
				handle := r.cached(middleware.Recover(r.chain.Log)(func(*message.Message) ([]*message.Message, error) {
					first := runs.Add(1) == 1
					<-time.After(time.Second)
					if first {
						return nil, tc.first()
					}
					return nil, nil
				}))
				var all sync.WaitGroup
				for range 10 {
					all.Go(func() {
						if handle(t.Context()) != nil {
							failed.Add(1)
						}
					})
				}
				all.Wait()
				require.EqualValues(t, tc.runs, runs.Load())
				require.EqualValues(t, tc.hits, r.hits.Load())
				require.EqualValues(t, tc.failed, failed.Load())
				require.Equal(t, tc.took, time.Since(start))
				require.NoError(t, handle(t.Context()))
				require.EqualValues(t, tc.hits+1, r.hits.Load(), "it is remembered")
			})
		})
	}
}

func TestAPanicOfTheFirstFreesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t)
		var runs atomic.Int32
		handle := r.cached(func(*message.Message) ([]*message.Message, error) {
			if runs.Add(1) == 1 {
				<-time.After(time.Second)
				panic("oh")
			}
			return nil, nil
		})
		go func() {
			defer func() { _ = recover() }()
			_ = handle(t.Context())
		}()
		synctest.Wait()
		require.NoError(t, handle(t.Context()))
		require.EqualValues(t, 2, runs.Load())
	})
}

func TestWhoWaitsForTheFirstEndsWithItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t)
		free := make(chan struct{})
		handle := r.cached(func(*message.Message) ([]*message.Message, error) {
			<-free
			return nil, nil
		})
		go func() { _ = handle(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, handle(ctx), context.DeadlineExceeded)
		close(free)
	})
}

func TestAStoreThatHangsHoldsNobodyUpForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t)
		r.store.hang = true
		action, runs := counted()
		handle := r.cached(action)
		start := time.Now()
		require.NoError(t, handle(t.Context()))
		require.Equal(t, time.Second, time.Since(start), "the first waits")
		for range 100 {
			require.NoError(t, handle(t.Context()))
		}
		require.Equal(t, time.Second, time.Since(start), "the others do not")
		require.Equal(t, 1, r.store.hasCalls)
		<-time.After(time.Second)
		for range 2 {
			go func() { _ = handle(t.Context()) }()
		}
		synctest.Wait()
		require.Equal(t, 2, r.store.hasCalls, "one asks again after a while")
		<-time.After(2 * time.Second)

		r.store.mu.Lock()
		r.store.hang = false
		r.store.mu.Unlock()
		ran := runs.Load()
		require.NoError(t, handle(t.Context()))
		require.Equal(t, ran, runs.Load(), "what succeeded meanwhile was remembered, since writing worked")
		require.Equal(t, 1, strings.Count(r.log.String(), "cached results cannot be read"))
		require.Equal(t, 1, strings.Count(r.log.String(), "cached results are read again"))
	})
}

func TestResultsNeedAStoreATimeAndALog(t *testing.T) {
	good := middleware.ResultsConfig{Store: &resultStore{}, TTL: time.Second, Log: slog.New(slog.DiscardHandler)}
	for name, spoil := range map[string]func(*middleware.ResultsConfig){
		"store": func(c *middleware.ResultsConfig) { c.Store = nil },
		"time":  func(c *middleware.ResultsConfig) { c.TTL = 0 },
		"log":   func(c *middleware.ResultsConfig) { c.Log = nil },
	} {
		cfg := good
		spoil(&cfg)
		_, err := middleware.NewResults(cfg)
		require.Error(t, err, name)
	}
	_, err := middleware.NewResults(good)
	require.NoError(t, err)
}

func TestTheKeyOfADeliveryIsAHashOfAllThatMatters(t *testing.T) {
	request := []byte("POST https://x/token-s3cret")
	key := middleware.DeliveryKey(func(*event.Delivery) ([]byte, error) { return request, nil })
	of := func(change func(*event.Delivery)) string {
		d := &event.Delivery{Event: &event.Event{ID: "e", TenantID: "t"}, Observer: "o", Action: "a"}
		if change != nil {
			change(d)
		}
		k, err := key(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
		require.NoError(t, err)
		return k
	}
	base := of(nil)
	require.Regexp(t, "^action_result:[0-9a-f]{64}$", base)
	require.Equal(t, base, of(func(d *event.Delivery) { d.Event.ID, d.Generation = "other", 1 }), "neither the event nor the attempt is part of it")
	for name, change := range map[string]func(*event.Delivery){
		"the observer":         func(d *event.Delivery) { d.Observer = "o2" },
		"the action":           func(d *event.Delivery) { d.Action = "a2" },
		"the tenant":           func(d *event.Delivery) { d.Event.TenantID = "t2" },
		"no tenant":            func(d *event.Delivery) { d.Event.TenantID = "" },
		"where one text ends":  func(d *event.Delivery) { d.Observer, d.Action = "oa", "" },
		"what the action does": func(*event.Delivery) { request = []byte("GET https://x") },
	} {
		before := request
		require.NotEqual(t, base, of(change), name)
		request = before
	}
}
