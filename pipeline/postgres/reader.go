package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/pipeline/window"
)

// allTopics is the topic of a reader that reads every entity.
const allTopics = "*"

const wakePoll = "poll"

// errReaderClosed is what Fetch returns after Close.
var errReaderClosed = errors.New("reader is closed")

// ReaderConfig describes a [Reader].
type ReaderConfig struct {
	Config Config
	Pool   *pgxpool.Pool // for its address and credentials: the reader has connections of its own
	Lease  *Lease        // fences every write; the caller releases it after Close
	// Topic is the entity (object_type) to read; "*", the default, reads all.
	Topic string
	// Name of the checkpoint row. Default: the listener_name of Config.
	Name string
	// MaxDeliver is how many starts without an outcome an event may have before it becomes a dead letter. Default 3.
	MaxDeliver int
	// Tracked says that whoever handles the events tells their window.Tracker. Otherwise being handed out counts as a start.
	Tracked bool
	// Source is the source of every event. Default: the name of the database.
	Source string
	Log    *slog.Logger
}

// Reader reads the change log: every committed row once per checkpoint, rows of one entity in commit order, without
// waiting for transactions that are open. It implements window.Driver. See session.go for the reading itself.
type Reader struct {
	cfg     ReaderConfig
	lease   *Lease
	trouble *outage.Log
	sql     queries
	batch   int

	start sync.Once
	stop  context.CancelFunc
	done  chan struct{} // closed when run ended

	// storing serialises taking an image of the state and writing it.
	storing sync.Mutex

	mu      sync.Mutex        // guards what follows
	cursor  cursor            // of the session that is up
	known   map[string]*entry // by event id, what outlived the session that read it, see outage.go
	recent  []*entry          // settled since the last stored checkpoint
	ready   []*entry          // read and not handed out
	bytes   int               // of ready
	held    heldBack
	running int
	only    *entry // the suspect that runs by itself
	quiet   bool   // nothing may be handed out but only
	careful bool   // the checkpoint is stored before a page is handed out
	assumed int    // how many more rows are assumed to have been started, see suspects.go
	live    bool   // a session is up
	closing bool
	final   bool // the last checkpoint is stored
	fatal   error
	health  health
	started bool  // a checkpoint was loaded
	loaded  int64 // the epoch of the one that was loaded last

	fetchable signal // something may be handed out
	movable   signal // the reading goroutine may go on
	changed   signal // there is something to store
}

// signal wakes one goroutine; further signals before it looks are one.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

var _ window.Driver = (*Reader)(nil)

// NewReader returns a Reader. It connects with the first Fetch.
func NewReader(cfg ReaderConfig) *Reader {
	if cfg.Topic == "" {
		cfg.Topic = allTopics
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Config.ListenerName
	}
	if cfg.MaxDeliver <= 0 {
		cfg.MaxDeliver = 3
	}
	if cfg.Config.BatchSize <= 0 {
		cfg.Config.BatchSize = 500
	}
	if cfg.Config.PollIntervalSecs <= 0 {
		cfg.Config.PollIntervalSecs = 1
	}
	if cfg.Source == "" {
		cfg.Source = cfg.Pool.Config().ConnConfig.Database
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reader{
		cfg: cfg, lease: cfg.Lease, trouble: outage.New(cfg.Log, "reading the change log was interrupted", "the change log is read again"), sql: newQueries(cfg.Topic), batch: cfg.Config.BatchSize,
		done: make(chan struct{}), known: map[string]*entry{}, careful: cfg.Lease.Unclean(),
		fetchable: newSignal(), movable: newSignal(), changed: newSignal(),
	}
	if r.careful {
		r.assumed = assumedStarts
	}
	return r
}

// Fetch returns up to limit events in the order of the log; those that were nacked come first once they are due. It
// returns an error marked with window.Fatal when another process took over, or when a person must act.
func (r *Reader) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	r.start.Do(func() {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r.stop = cancel
		go r.run(run) // ended by Close
	})
	for {
		items, wait, err := r.take(limit)
		if err != nil || len(items) > 0 {
			return items, err
		}
		if err := r.await(ctx, wait); err != nil {
			return nil, fmt.Errorf("fetch from change log: %w", err)
		}
	}
}

// await returns when something may be handed out, or after wait.
func (r *Reader) await(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.fetchable:
	case <-r.lease.Lost():
		r.fail(ErrDeposed)
	case <-timer.C:
	}
	return nil
}

const (
	leaseLook = 50 * time.Millisecond // between looks at a lease that is not held
	longWait  = time.Hour             // nothing is due: only a signal ends the wait
)

// take hands out what is ready. Without anything it returns how long to wait before looking again.
func (r *Reader) take(limit int) ([]window.Item, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.fatal != nil:
		return nil, 0, window.Fatal(r.fatal)
	case r.closing:
		return nil, 0, window.Fatal(errReaderClosed)
	case !r.lease.Held():
		return nil, leaseLook, nil
	}
	if r.quiet {
		return r.takeOnly(), longWait, nil
	}
	var items []window.Item
	now := time.Now()
	for len(items) < limit {
		e := r.held.due(now)
		if e == nil {
			break
		}
		items = append(items, r.hand(e))
	}
	n := min(limit-len(items), len(r.ready))
	for _, e := range r.ready[:n] {
		r.bytes -= e.size
		items = append(items, r.hand(e))
	}
	if r.ready = r.ready[n:]; len(r.ready) == 0 {
		r.ready = nil
	}
	if len(items) > 0 {
		r.touch()
		r.movable.set()
	}
	return items, r.held.wait(now), nil
}

func (r *Reader) takeOnly() []window.Item {
	if r.only == nil || r.only.state != ready {
		return nil
	}
	return []window.Item{r.hand(r.only)}
}

func (r *Reader) hand(e *entry) window.Item {
	e.state = running
	r.running++
	msg := e.msg
	e.msg = nil // whoever runs it keeps it
	e.begun.Store(!r.cfg.Tracked)
	if r.cfg.Tracked {
		msg.SetContext(window.WithTracker(msg.Context(), tracker{r, e}))
	}
	return window.Item{Msg: msg, Raw: e}
}

// Ack settles events; that is durable within 100 ms, and when Close returns nil.
func (r *Reader) Ack(_ context.Context, items []window.Item) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, item := range items {
		e, ok := item.Raw.(*entry)
		if !ok || e.state != running {
			continue
		}
		r.running--
		e.state = settled
		if e.linked {
			r.cursor.remove(e)
			r.recent = append(r.recent, e)
		}
	}
	r.touch()
	r.movable.set()
	return nil
}

// Nack offers an event again after delay. A failure is an outcome: the event no longer counts as one that may have ended
// the process.
func (r *Reader) Nack(_ context.Context, item window.Item, delay time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := item.Raw.(*entry)
	if !ok || e.state != running {
		return nil
	}
	r.running--
	e.state, e.counted, e.due = delayed, false, time.Now().Add(delay)
	if e.prior != poisoned {
		e.prior = 0
	}
	e.msg = renew(item.Msg)
	r.held.push(e)
	r.touch()
	r.movable.set()
	r.fetchable.set()
	return nil
}

// renew returns msg as one that can be acked and nacked again.
func renew(msg *message.Message) *message.Message {
	again := message.NewMessage(msg.UUID, msg.Payload)
	for key, value := range msg.Metadata {
		again.Metadata.Set(key, value)
	}
	if e := event.OfContext(msg.Context()); e != nil {
		again.SetContext(event.WithEvent(context.Background(), e))
	}
	return again
}

// touch notes that what is stored is no longer the state.
func (r *Reader) touch() { r.changed.set() }

// Close stores the checkpoint, in which what was handed out and did not settle is left for the next process, and
// closes the reader's connections. While the server is away it waits for it until ctx ends.
func (r *Reader) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	begun := true
	r.start.Do(func() { begun = false })
	if !begun {
		return nil
	}
	r.changed.set()
	r.movable.set()
	r.fetchable.set()
	var late error
	select {
	case <-r.done:
	case <-ctx.Done():
		late = ctx.Err()
	}
	r.stop()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.fatal != nil:
		return fmt.Errorf("close reader: %w", r.fatal)
	case late != nil && !r.final:
		return fmt.Errorf("close reader: what settled last is not stored: %w", errors.Join(late, r.health.err))
	}
	return nil
}

// fail ends the reader: Fetch returns err from now on.
func (r *Reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fatal == nil {
		r.fatal = err
	}
	r.fetchable.set()
}
