package window

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ErrClosed is returned by Subscribe after Close.
var ErrClosed = errors.New("subscriber is closed")

// Config describes a [Subscriber].
type Config struct {
	// Open gives the driver of one subscription. Required.
	Open func(ctx context.Context, topic string) (Driver, error)
	// Init prepares a topic before anything is published to it; nil where that means nothing.
	Init func(topic string) error
	// Size is how many messages are in flight at most. Default 256.
	Size int
	// Batch is how many messages one Fetch or Ack takes at most. Default 100.
	Batch int
	// Ahead fetches the next batch while one is handed over: for a driver whose Fetch waits for its server each time.
	Ahead bool
	// DrainTimeout bounds how long a subscription takes to end. For four fifths of it, it waits for what is in flight; then
	// the messages' contexts are cancelled, and what does not settle at once is left to the driver. Default 25 s.
	DrainTimeout time.Duration
	// Direct says that whoever reads the subscription settles each message with [Settle], not with Ack or Nack. That saves a
	// goroutine and a context for each message.
	Direct bool
	// Log tells of failed fetches. Default: nothing is logged.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Size <= 0 {
		c.Size = 256
	}
	if c.Batch <= 0 {
		c.Batch = 100
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 25 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Subscriber implements message.Subscriber over drivers. Messages stay valid while a subscription drains: their contexts
// carry the values of Subscribe's context, not its end.
type Subscriber struct {
	cfg     Config
	closing chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	err    error
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// New returns a Subscriber.
func New(cfg Config) (*Subscriber, error) {
	if cfg.Open == nil {
		return nil, errors.New("window: Open is required")
	}
	return &Subscriber{cfg: cfg.withDefaults(), closing: make(chan struct{})}, nil
}

// SubscribeInitialize implements message.SubscribeInitializer.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if s.cfg.Init == nil {
		return nil
	}
	return s.cfg.Init(topic)
}

// Subscribe implements message.Subscriber. The channel closes when ctx ends, after Close, or when the driver fails for
// good; [Subscriber.Err] then tells why.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()

	driver, err := s.cfg.Open(ctx, topic)
	if err != nil {
		s.running.Done()
		return nil, err
	}
	sub := newSubscription(ctx, s, driver)
	go func() {
		defer s.running.Done()
		s.ended(sub.run())
	}()
	return sub.out, nil
}

// Close stops fetching and waits until every subscription has drained.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Wait blocks until every subscription has drained and returns [Subscriber.Err].
func (s *Subscriber) Wait() error {
	s.running.Wait()
	return s.Err()
}

// Err returns why a subscription ended by itself or could not be closed well, nil when none did.
func (s *Subscriber) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Subscriber) ended(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}
