package middleware_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/middleware"
)

// attempt runs an action with a context that ends after a second.
type attempt func(parent context.Context, action func(ctx context.Context))

var (
	attempted = through(middleware.Timeout(time.Second))
	standard  = through(standardTimeout)
)

func through(m message.HandlerMiddleware) attempt {
	return func(parent context.Context, action func(ctx context.Context)) {
		handler := m(func(msg *message.Message) ([]*message.Message, error) {
			action(msg.Context())
			return nil, nil
		})
		_, _ = handler(message.NewMessageWithContext(parent, "e", nil))
	}
}

// standardTimeout is Timeout with the standard library's context.
func standardTimeout(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		outer := msg.Context()
		ctx, cancel := context.WithTimeout(outer, time.Second)
		msg.SetContext(ctx)
		defer func() {
			cancel()
			msg.SetContext(outer)
		}()
		return next(msg)
	}
}

var errWhy = errors.New("why")

// What an action can see of the end of its context, whoever asks first and however. It is what context.WithTimeout shows.
func TestTheContextOfAnAttemptEndsLikeAnyOther(t *testing.T) {
	const early, late = time.Second - 1, time.Second + 1
	for name, test := range map[string]struct {
		look      func(ctx context.Context) error
		err       error
		cancelled error // by the parent, with errWhy, before the look
	}{
		"Err before the end":   {look: func(ctx context.Context) error { <-time.After(early); return ctx.Err() }, cancelled: context.Canceled},
		"Err after the end":    {look: func(ctx context.Context) error { <-time.After(late); return ctx.Err() }, err: context.DeadlineExceeded, cancelled: context.Canceled},
		"Err at the end":       {look: func(ctx context.Context) error { <-time.After(time.Second); synctest.Wait(); return ctx.Err() }, err: context.DeadlineExceeded, cancelled: context.Canceled},
		"Cause before the end": {look: func(ctx context.Context) error { <-time.After(early); return context.Cause(ctx) }, cancelled: errWhy},
		"Cause after the end":  {look: func(ctx context.Context) error { <-time.After(late); return context.Cause(ctx) }, err: context.DeadlineExceeded, cancelled: errWhy},
		"Done":                 {look: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, err: context.DeadlineExceeded, cancelled: context.Canceled},
		"Done of a child":      {look: child(context.WithCancel), err: context.DeadlineExceeded, cancelled: errWhy},
		"Done of a child with a time": {look: child(func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		}), err: context.DeadlineExceeded, cancelled: errWhy},
		"Done of a child with a value":  {look: child(withValue), err: context.DeadlineExceeded, cancelled: errWhy},
		"Err of a child with a value":   {look: func(ctx context.Context) error { ctx, _ = withValue(ctx); <-time.After(late); return ctx.Err() }, err: context.DeadlineExceeded, cancelled: context.Canceled},
		"a child without its end":       {look: func(ctx context.Context) error { <-time.After(late); return context.Cause(context.WithoutCancel(ctx)) }},
		"AfterFunc":                     {look: afterFunc, err: context.DeadlineExceeded, cancelled: errWhy},
		"AfterFunc that is not waited":  {look: func(ctx context.Context) error { require.True(t, context.AfterFunc(ctx, func() {})()); return nil }},
		"a child that ends by itself":   {look: func(ctx context.Context) error { ctx, cancel := context.WithCancel(ctx); cancel(); return ctx.Err() }, err: context.Canceled, cancelled: context.Canceled},
		"a timer that waits beside it":  {look: beside, err: context.DeadlineExceeded, cancelled: context.Canceled},
		"what it says its time will be": {look: deadlineIn(time.Second)},
	} {
		for kind, run := range map[string]attempt{"ours": attempted, "standard": standard} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					run(t.Context(), func(ctx context.Context) { require.Equal(t, test.err, test.look(ctx)) })
				})
			})
			if test.cancelled == nil {
				continue
			}
			t.Run(name+"/cancelled/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancelCause(t.Context())
					run(parent, func(ctx context.Context) {
						cancel(errWhy)
						require.Equal(t, test.cancelled, test.look(ctx))
					})
				})
			})
		}
	}
}

func child(with func(context.Context) (context.Context, context.CancelFunc)) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := with(ctx)
		defer cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

type valueKey struct{}

func withValue(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithValue(ctx, valueKey{}, 1), func() {}
}

func afterFunc(ctx context.Context) error {
	called := make(chan error)
	context.AfterFunc(ctx, func() { called <- context.Cause(ctx) })
	return <-called
}

func beside(ctx context.Context) error {
	select {
	case <-time.After(time.Minute):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func deadlineIn(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) != d {
			return errors.New("another time")
		}
		return nil
	}
}

func TestTheParentsTimeCountsWhereItIsEarlier(t *testing.T) {
	for kind, run := range map[string]attempt{"ours": attempted, "standard": standard} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errWhy)
				defer cancel()
				run(parent, func(ctx context.Context) {
					require.NoError(t, deadlineIn(time.Millisecond)(ctx))
					<-time.After(2 * time.Millisecond)
					require.Equal(t, context.DeadlineExceeded, ctx.Err())
					require.Equal(t, errWhy, context.Cause(ctx))
				})
			})
		})
	}
}

func TestAnAttemptKeepsTheValuesOfItsMessage(t *testing.T) {
	parent, _ := withValue(t.Context())
	attempted(parent, func(ctx context.Context) {
		require.Equal(t, 1, ctx.Value(valueKey{}))
		_ = ctx.Done()
		require.Equal(t, 1, ctx.Value(valueKey{}))
	})
}

// What an action leaves behind ends with the attempt, whether it waits already or asks later.
func TestTheContextEndsWithTheAttempt(t *testing.T) {
	for kind, run := range map[string]attempt{"ours": attempted, "standard": standard} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var kept []context.Context
				run(t.Context(), func(ctx context.Context) {
					kept = append(kept, ctx)
					go func() { <-ctx.Done() }() // synctest misses it if it does not end
					synctest.Wait()
				})
				run(t.Context(), func(ctx context.Context) { kept = append(kept, ctx) })
				run(t.Context(), func(ctx context.Context) {
					ctx, _ = withValue(ctx)
					kept = append(kept, ctx)
				})
				for _, ctx := range kept {
					<-ctx.Done()
					require.Equal(t, context.Canceled, ctx.Err())
					require.Equal(t, context.Canceled, context.Cause(ctx))
					<-time.After(time.Minute)
					require.Equal(t, context.Canceled, ctx.Err())
				}
			})
		})
	}
}

func TestManyMayUseTheContextOfAnAttempt(t *testing.T) {
	for range 200 {
		parent, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		attempted(parent, func(ctx context.Context) {
			for _, use := range []func(){
				func() { <-ctx.Done() }, func() { _ = ctx.Err() }, func() { _ = context.Cause(ctx) }, func() { ctx.Value(valueKey{}) },
				func() { context.AfterFunc(ctx, func() {})() }, func() { _ = child(context.WithCancel)(ctx) }, cancel,
			} {
				all.Go(use)
			}
		})
		all.Wait()
	}
}

func BenchmarkTimeout(b *testing.B) {
	for kind, m := range map[string]message.HandlerMiddleware{"ours": middleware.Timeout(time.Second), "standard": standardTimeout} {
		b.Run(kind, func(b *testing.B) {
			parent, cancel := context.WithCancel(b.Context())
			defer cancel()
			parent, _ = withValue(parent)
			msg := message.NewMessageWithContext(parent, "e", nil)
			handler := m(func(msg *message.Message) ([]*message.Message, error) {
				msg.Context().Value(valueKey{})
				return nil, nil
			})
			b.ReportAllocs()
			for b.Loop() {
				_, _ = handler(msg)
			}
		})
	}
}
