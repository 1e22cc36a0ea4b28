package nats

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	relayAhead   = 1024 // published and not acknowledged, at most: a stream takes some ten thousand a second
	relayBatch   = 256  // settled at a time
	relayTimeout = 5 * time.Second
	relayFirst   = 50 * time.Millisecond // between two tries at one event, doubled
	relayLast    = 2 * time.Second
)

// RelayConfig describes a [Relay]. All fields are required.
type RelayConfig struct {
	JetStream jetstream.JetStream
	Stream    string
	Subject   func(*event.Event) string
	Source    window.Driver
	// Poison keeps what must not be handled: its metadata says why, see window.MetadataPoison.
	Poison func(context.Context, *message.Message) error
	Batch  int // events fetched at a time
	Log    *slog.Logger
}

// Relay moves events from a source into a stream. An event is settled once the stream has acknowledged it; while the stream
// is away or full nothing is settled, and soon nothing is fetched. Many are under way at a time, but of one entity only one:
// whatever has to be repeated, the order of the stream within an entity is that of the source.
type Relay struct {
	cfg     RelayConfig
	trouble *outage.Log
	last    atomic.Uint64
	failing atomic.Pointer[error]

	mu   sync.Mutex // guards busy
	busy map[string]*passage
}

// passage is one event on its way.
type passage struct {
	item   window.Item
	key    string
	msg    *natsgo.Msg            // nil: it is poison
	future jetstream.PubAckFuture // nil: it was refused at once
	err    error
	late   bool          // the first try failed
	done   chan struct{} // closed once the stream has it, or the relay ends
}

// NewRelay returns a Relay.
func NewRelay(cfg RelayConfig) *Relay {
	return &Relay{cfg: cfg, trouble: outage.New(cfg.Log, "the stream takes no events, will try again", "the stream takes events again"), busy: map[string]*passage{}}
}

// Last returns the highest sequence that the stream has acknowledged, 0 before the first.
func (r *Relay) Last() uint64 { return r.last.Load() }

// Forget makes Last begin anew: the stream is another one.
func (r *Relay) Forget() { r.last.Store(0) }

// Err returns why the stream takes nothing at the moment, nil while it does.
func (r *Relay) Err() error {
	if err := r.failing.Load(); err != nil {
		return *err
	}
	return nil
}

// Run relays until ctx ends or the source fails for good, which is the error; then it settles what the stream acknowledges
// within a moment. Closing the source is left to the caller.
func (r *Relay) Run(ctx context.Context) error {
	queue := make(chan *passage, relayAhead)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		r.collect(ctx, queue)
	}()
	err := r.publish(ctx, queue)
	close(queue)
	<-settled
	return err
}

func (r *Relay) publish(ctx context.Context, queue chan<- *passage) error {
	for wait := relayFirst; ; {
		items, err := r.cfg.Source.Fetch(ctx, r.cfg.Batch)
		for _, item := range items {
			p := r.passageOf(item)
			if !r.begin(ctx, p) {
				return nil
			}
			if p.msg != nil {
				p.future, p.err = r.cfg.JetStream.PublishMsgAsync(p.msg, jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
			}
			queue <- p
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		switch {
		case window.IsFatal(err):
			return err
		case err != nil:
			r.cfg.Log.Warn("fetch failed, will try again", slog.Any("error", err))
			pause(ctx, wait)
			wait = min(2*wait, relayLast)
		default:
			wait = relayFirst
		}
	}
}

func (r *Relay) passageOf(item window.Item) *passage {
	e := event.OfContext(item.Msg.Context())
	p := &passage{item: item, key: e.Key(), done: make(chan struct{})}
	if item.Msg.Metadata.Get(window.MetadataPoison) == "" {
		p.msg = marshalEvent(r.cfg.Subject(e), e)
	}
	return p
}

// begin waits until no other event of the entity is under way. It reports false when ctx ended first.
func (r *Relay) begin(ctx context.Context, p *passage) bool {
	for {
		r.mu.Lock()
		other := r.busy[p.key]
		if other == nil {
			r.busy[p.key] = p
		}
		r.mu.Unlock()
		if other == nil {
			return true
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return false
		}
	}
}

func (r *Relay) end(p *passage) {
	r.mu.Lock()
	delete(r.busy, p.key)
	r.mu.Unlock()
	close(p.done)
}

// collect settles what the stream has acknowledged, in order.
func (r *Relay) collect(ctx context.Context, queue <-chan *passage) {
	var batch []window.Item
	for p := range queue {
		if r.acknowledged(ctx, p) {
			batch = append(batch, p.item)
			if p.msg != nil && !p.late || len(queue) == 0 { // others behind it failed for the same reason
				r.works()
			}
		}
		r.end(p)
		if len(batch) >= relayBatch || len(queue) == 0 && len(batch) > 0 {
			if err := r.cfg.Source.Ack(context.WithoutCancel(ctx), batch); err != nil {
				r.cfg.Log.Warn("published events could not be settled: they will be published again", slog.Int("events", len(batch)), slog.Any("error", err))
			}
			batch = nil
		}
	}
}

// acknowledged repeats an event until the stream has it. It reports false when ctx ended first.
func (r *Relay) acknowledged(ctx context.Context, p *passage) bool {
	ack, err := r.first(ctx, p)
	for wait := time.Duration(0); err != nil; wait = min(max(2*wait, relayFirst), relayLast) { // at once: the outage may be over
		if ctx.Err() != nil {
			return false
		}
		p.late = true
		r.failed(err)
		pause(ctx, wait)
		try, cancel := context.WithTimeout(ctx, relayTimeout)
		ack, err = r.again(try, p)
		cancel()
	}
	if ack != nil && !ack.Duplicate {
		r.last.Store(max(r.last.Load(), ack.Sequence))
	}
	return true
}

func (r *Relay) again(ctx context.Context, p *passage) (*jetstream.PubAck, error) {
	if p.msg == nil {
		return nil, r.cfg.Poison(ctx, p.item.Msg)
	}
	return r.cfg.JetStream.PublishMsg(ctx, p.msg, jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
}

// first waits for the answer to the first try.
func (r *Relay) first(ctx context.Context, p *passage) (*jetstream.PubAck, error) {
	if p.msg == nil {
		return r.again(ctx, p)
	}
	if p.future == nil {
		return nil, p.err
	}
	timer := time.NewTimer(relayTimeout)
	defer timer.Stop()
	select {
	case ack := <-p.future.Ok():
		return ack, nil
	case err := <-p.future.Err():
		return nil, err
	case <-timer.C:
		return nil, errNoAck
	case <-ctx.Done():
	}
	select { // the answer to what was sent may be on its way
	case ack := <-p.future.Ok():
		return ack, nil
	case err := <-p.future.Err():
		return nil, err
	case <-time.After(relayFirst):
		return nil, ctx.Err()
	}
}

func (r *Relay) works() {
	if r.failing.Load() != nil {
		r.failing.Store(nil)
		r.trouble.OK()
	}
}

var errNoAck = errors.New("no acknowledgement in time")

func (r *Relay) failed(err error) {
	err = Diagnose(full(err))
	r.failing.Store(&err)
	r.trouble.Failed(err)
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
