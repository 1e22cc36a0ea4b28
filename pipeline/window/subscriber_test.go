package window_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/window"
)

// fake is a driver that gives out what it was fed and remembers how it was settled.
type fake struct {
	feed chan *message.Message
	errs chan error

	mu            sync.Mutex // guards what follows
	limits        []int
	acked, nacked []string
	closed        bool
}

func newFake(ids ...string) *fake {
	f := &fake{feed: make(chan *message.Message, 100), errs: make(chan error, 10)}
	for _, id := range ids {
		f.feed <- message.NewMessage(id, nil)
	}
	return f
}

func (f *fake) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	f.mu.Lock()
	f.limits = append(f.limits, limit)
	f.mu.Unlock()
	select {
	case err := <-f.errs:
		return nil, err
	default:
	}
	select {
	case msg := <-f.feed:
		return []window.Item{{Msg: msg}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fake) Ack(_ context.Context, items []window.Item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range items {
		f.acked = append(f.acked, i.Msg.UUID)
	}
	return nil
}

func (f *fake) Nack(_ context.Context, item window.Item, _ time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nacked = append(f.nacked, item.Msg.UUID)
	return nil
}

func (f *fake) Close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func subscribe(t *testing.T, f *fake, cfg window.Config) (*window.Subscriber, <-chan *message.Message) {
	t.Helper()
	cfg.Open = func(context.Context, string) (window.Driver, error) { return f, nil }
	sub, err := window.New(cfg)
	require.NoError(t, err)
	msgs, err := sub.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	return sub, msgs
}

func TestNoMoreIsFetchedThanThereAreFreeSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("1", "2", "3")
		sub, msgs := subscribe(t, f, window.Config{Size: 2, Batch: 10})
		first, second := <-msgs, <-msgs
		synctest.Wait()
		require.Equal(t, []int{2, 1}, f.limits)
		first.Ack()
		third := <-msgs
		require.Equal(t, "3", third.UUID)
		second.Ack()
		third.Ack()
		require.NoError(t, sub.Close())
		require.ElementsMatch(t, []string{"1", "2", "3"}, f.acked)
		require.True(t, f.closed)
	})
}

func TestOneBatchIsFetchedAheadAndGivenBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("1", "2", "3", "4") // a batch each
		sub, msgs := subscribe(t, f, window.Config{Size: 10, Batch: 10, Ahead: true})
		first := <-msgs
		synctest.Wait()
		require.Len(t, f.limits, 3, "the second waits for a reader, the third for the second")
		first.Ack()
		synctest.Wait()
		require.NoError(t, sub.Close())
		require.Equal(t, []string{"1"}, f.acked)
		require.Equal(t, []string{"2", "3"}, f.nacked)
		require.Len(t, f.feed, 1)
	})
}

func TestWhatDoesNotSettleInTimeIsCancelledAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("obedient", "stubborn")
		sub, msgs := subscribe(t, f, window.Config{DrainTimeout: 5 * time.Second})
		obedient, stubborn := <-msgs, <-msgs
		start := time.Now()
		go func() {
			<-obedient.Context().Done()
			obedient.Nack()
		}()
		require.NoError(t, sub.Close())
		require.Equal(t, 4500*time.Millisecond, time.Since(start), "four fifths of the drain timeout and a moment to settle")
		require.ElementsMatch(t, []string{"obedient", "stubborn"}, f.nacked)
		require.Error(t, stubborn.Context().Err())
	})
}

// hung is a driver whose server does not answer any more when something settles.
type hung struct{ *fake }

func (h hung) Ack(ctx context.Context, _ []window.Item) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hung) Nack(ctx context.Context, _ window.Item, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestADriverThatHangsDoesNotHoldTheEndUp(t *testing.T) {
	for name, settle := range map[string]func(*message.Message) bool{
		"acks": (*message.Message).Ack, "nacks": (*message.Message).Nack, "neither": func(*message.Message) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake("1", "2", "3")
				sub, err := window.New(window.Config{
					Open: func(context.Context, string) (window.Driver, error) { return hung{f}, nil }, DrainTimeout: 20 * time.Second, Batch: 1,
				})
				require.NoError(t, err)
				msgs, err := sub.Subscribe(t.Context(), "t")
				require.NoError(t, err)
				for range 3 {
					settle(<-msgs)
				}
				start := time.Now()
				require.NoError(t, sub.Close())
				require.LessOrEqual(t, time.Since(start), 20*time.Second)
				require.True(t, f.closed)
			})
		})
	}
}

// stack is a driver that offers at once, and first, what is nacked without a delay, and loses the rest.
type stack struct {
	*fake
	list []string
}

func (s *stack) Fetch(ctx context.Context, _ int) ([]window.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	id := s.list[0]
	s.list = s.list[1:]
	return []window.Item{{Msg: message.NewMessage(id, nil)}}, nil
}

func (s *stack) Nack(_ context.Context, item window.Item, delay time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delay == 0 {
		s.list = append([]string{item.Msg.UUID}, s.list...)
	}
	return nil
}

func TestInAWindowOfOneANackedMessageComesAgainBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stack{newFake(), []string{"1", "2"}}
		sub, err := window.New(window.Config{Open: func(context.Context, string) (window.Driver, error) { return s, nil }, Size: 1})
		require.NoError(t, err)
		msgs, err := sub.Subscribe(t.Context(), "t")
		require.NoError(t, err)
		start := time.Now()
		(<-msgs).Nack()
		msg := <-msgs
		require.Equal(t, "1", msg.UUID)
		require.Equal(t, 100*time.Millisecond, time.Since(start), "it does not spin")
		msg.Ack()
		msg = <-msgs
		require.Equal(t, "2", msg.UUID)
		msg.Ack()
		require.NoError(t, sub.Close())
	})
}

func TestAFetchThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("1")
		f.errs <- errors.New("server away")
		sub, msgs := subscribe(t, f, window.Config{})
		(<-msgs).Ack()
		require.NoError(t, sub.Close())
	})
}

func TestAFatalFetchEndsTheSubscriptionAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		deposed := errors.New("deposed")
		f.errs <- window.Fatal(deposed)
		sub, msgs := subscribe(t, f, window.Config{})
		_, open := <-msgs
		require.False(t, open)
		require.ErrorIs(t, sub.Wait(), deposed)
		require.True(t, f.closed)
	})
}

func TestAClosedSubscriberRefusesToSubscribe(t *testing.T) {
	sub, err := window.New(window.Config{Open: func(context.Context, string) (window.Driver, error) { return newFake(), nil }})
	require.NoError(t, err)
	require.NoError(t, sub.Close())
	_, err = sub.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, window.ErrClosed)
}
