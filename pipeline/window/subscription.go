package window

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/internal/outage"
)

const (
	fetchPause  = 100 * time.Millisecond // after a failed fetch, doubled for each that follows
	fetchRest   = 2 * time.Second        // the longest such pause
	nackDelay   = 100 * time.Millisecond // keeps a message that is nacked each time from spinning
	tellTimeout = 10 * time.Second       // for the driver to note one outcome; at least half of it for acks
	lastMoment  = time.Second            // at most, to settle, for a handler whose message's context was cancelled
	lastWrites  = 2 * time.Second        // at least, for the driver after that
)

// subscription is one Subscribe. Its run goroutine alone sends on out and closes it.
type subscription struct {
	driver Driver
	cfg    Config
	out    chan *message.Message
	slots  chan struct{} // one token per message in flight
	acks   chan Item     // as long as the window: an ack never waits for a slow driver

	fetching context.Context // ends when no more is to be fetched
	stop     context.CancelFunc
	living   context.Context // parent of every message's context; ends when draining took too long
	kill     context.CancelFunc
	telling  context.Context // parent of every call that settles; ends when that took too long as well
	giveUp   context.CancelFunc
	inFlight sync.WaitGroup

	mu   sync.Mutex // guards open
	open *flight    // of a direct subscription, the last that was handed over
}

func newSubscription(ctx context.Context, s *Subscriber, driver Driver) *subscription {
	sub := &subscription{
		driver: driver, cfg: s.cfg,
		out:   make(chan *message.Message),
		slots: make(chan struct{}, s.cfg.Size),
		acks:  make(chan Item, s.cfg.Size),
	}
	sub.fetching, sub.stop = context.WithCancel(ctx)
	sub.living, sub.kill = context.WithCancel(context.WithoutCancel(ctx))
	sub.telling, sub.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	go func() { // ended by run
		select {
		case <-s.closing:
			sub.stop()
		case <-sub.fetching.Done():
		}
	}()
	return sub
}

// run fetches until told to stop, then drains: what is in flight may settle within the drain timeout.
func (s *subscription) run() error {
	acker := make(chan struct{})
	go func() {
		defer close(acker)
		s.collectAcks()
	}()
	defer s.giveUp()
	err := s.pull()
	s.stop()
	close(s.out)
	last := time.AfterFunc(max(s.cfg.DrainTimeout, s.patience()+lastWrites), s.giveUp)
	defer last.Stop()
	s.drain()
	close(s.acks)
	<-acker
	return errors.Join(err, s.driver.Close(s.telling))
}

// pull hands out what the driver has.
func (s *subscription) pull() error {
	if !s.cfg.Ahead {
		return s.fetch(s.handAll)
	}
	batches, ended := make(chan []Item), make(chan error, 1)
	go func() {
		ended <- s.fetch(func(batch []Item) { batches <- batch })
		close(batches)
	}()
	for batch := range batches {
		s.handAll(batch)
	}
	return <-ended
}

func (s *subscription) handAll(batch []Item) {
	for _, item := range batch {
		s.hand(item)
	}
}

func (s *subscription) fetch(hand func([]Item)) error {
	trouble := outage.New(s.cfg.Log, "fetch failed, will try again", "fetching again")
	for wait := fetchPause; ; {
		n := s.reserve()
		if n == 0 {
			return nil
		}
		items, err := s.driver.Fetch(s.fetching, n)
		s.release(n - len(items))
		if len(items) > 0 {
			hand(items)
		}
		if IsFatal(err) {
			return err
		}
		if err != nil && s.fetching.Err() == nil {
			trouble.Failed(err)
			pause(s.fetching, wait)
			wait = min(2*wait, fetchRest)
		} else {
			trouble.OK()
			wait = fetchPause
		}
	}
}

// reserve takes one slot and as many more as are free, up to a batch; 0 means stop.
func (s *subscription) reserve() int {
	select {
	case s.slots <- struct{}{}:
	case <-s.fetching.Done():
		return 0
	}
	if s.fetching.Err() != nil {
		s.release(1)
		return 0
	}
	for n := 1; ; n++ {
		if n == s.cfg.Batch {
			return n
		}
		select {
		case s.slots <- struct{}{}:
		default:
			return n
		}
	}
}

func (s *subscription) release(n int) {
	for range n {
		<-s.slots
	}
}

// hand gives one message to the subscriber's reader, or back to the driver when nobody is to read any more.
func (s *subscription) hand(item Item) {
	if s.cfg.Direct {
		s.handDirect(item)
		return
	}
	ctx, cancel := context.WithCancel(s.living)
	item.Msg.SetContext(withAttached(ctx, item.Msg.Context()))
	s.inFlight.Add(1)
	select {
	case <-s.fetching.Done():
		cancel()
		s.giveBack(item, 0)
	case s.out <- item.Msg:
		go s.await(item, cancel)
	}
}

func (s *subscription) handDirect(item Item) {
	f := &flight{Context: s.living, attached: item.Msg.Context(), sub: s, item: item}
	item.Msg.SetContext(f)
	s.inFlight.Add(1)
	s.launch(f)
	select {
	case <-s.fetching.Done():
		if s.land(f) {
			s.giveBack(item, 0)
		}
	case s.out <- item.Msg:
	}
}

// await settles one message that was handed over.
func (s *subscription) await(item Item, cancel context.CancelFunc) {
	select {
	case <-item.Msg.Acked():
		s.acks <- item
	case <-item.Msg.Nacked():
		s.nacked(item)
	case <-s.living.Done():
		s.atLast(item)
	}
	cancel()
}

// nacked gives a message back that is to come again. In a window of one, nothing else goes out meanwhile: that keeps order.
func (s *subscription) nacked(item Item) {
	delay := nackDelay
	if s.cfg.Size == 1 {
		pause(s.fetching, delay)
		delay = 0
	}
	s.giveBack(item, delay)
}

// atLast gives a message whose context was cancelled a moment to settle: its handler may have just succeeded.
func (s *subscription) atLast(item Item) {
	last := time.NewTimer(min(lastMoment, s.cfg.DrainTimeout/10))
	defer last.Stop()
	select {
	case <-item.Msg.Acked():
		s.acks <- item
	case <-item.Msg.Nacked():
		s.giveBack(item, 0)
	case <-last.C:
		s.giveBack(item, 0)
	}
}

func (s *subscription) giveBack(item Item, delay time.Duration) {
	ctx, cancel := context.WithTimeout(s.telling, tellTimeout)
	defer cancel()
	if err := s.driver.Nack(ctx, item, delay); err != nil {
		s.cfg.Log.Warn("nack failed", slog.Any("error", err))
	}
	s.release(1)
	s.inFlight.Done()
}

func (s *subscription) collectAcks() {
	batch := make([]Item, 0, s.cfg.Batch)
	t := telling{parent: s.telling}
	defer t.end()
	for item := range s.acks {
		batch = s.gather(append(batch[:0], item))
		s.ack(t.context(), batch)
		for range batch {
			<-s.slots
			s.inFlight.Done()
		}
	}
}

func (s *subscription) ack(ctx context.Context, batch []Item) {
	if err := s.driver.Ack(ctx, batch); err != nil {
		s.cfg.Log.Warn("ack failed, the messages will come again", slog.Any("error", err))
	}
}

// telling is the context of many acks: one for each would cost more than most of them.
type telling struct {
	parent context.Context //nolint:containedctx // of a series of calls
	ctx    context.Context //nolint:containedctx // lasts for at least half of tellTimeout when it is handed out
	cancel context.CancelFunc
	until  time.Time
}

func (t *telling) context() context.Context {
	if now := time.Now(); now.After(t.until) {
		t.end()
		t.ctx, t.cancel = context.WithTimeout(t.parent, tellTimeout)
		t.until = now.Add(tellTimeout / 2)
	}
	return t.ctx
}

func (t *telling) end() {
	if t.cancel != nil {
		t.cancel()
	}
}

func (s *subscription) gather(batch []Item) []Item {
	for len(batch) < s.cfg.Batch {
		select {
		case item, ok := <-s.acks:
			if !ok {
				return batch
			}
			batch = append(batch, item)
		default:
			return batch
		}
	}
	return batch
}

// patience is how long what is in flight may go on after the last fetch.
func (s *subscription) patience() time.Duration { return s.cfg.DrainTimeout / 5 * 4 }

func (s *subscription) drain() {
	settled := make(chan struct{})
	go func() {
		s.inFlight.Wait()
		close(settled)
	}()
	patience := time.NewTimer(s.patience())
	defer patience.Stop()
	select {
	case <-settled:
	case <-patience.C:
	}
	s.kill()
	if s.cfg.Direct {
		last := time.NewTimer(min(2*lastMoment, s.cfg.DrainTimeout/10))
		defer last.Stop()
		select {
		case <-settled:
		case <-last.C:
			s.recall()
		}
	}
	<-settled
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
