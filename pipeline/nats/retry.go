package nats

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/window"
)

// RetryQueueConfig describes a [RetryQueue]. Stream, Consumer, AckWait and MaxDeliver are required.
type RetryQueueConfig struct {
	Stream   string // of the events; the queue is the stream <Stream>_retries
	Consumer string // workers with one name share the queue
	Replicas int    // 0: 1
	// AckWait is how long after its last sign of life a worker loses what it has in hand to the others.
	AckWait time.Duration
	// MaxDeliver is how many starts without an outcome (the process died) make a delivery a dead letter. The first is
	// presumed of everything that was in hand at a crash, so fewer than two cannot be told apart.
	MaxDeliver int
	Log        *slog.Logger // nil: none
}

// RetryQueue keeps deliveries in a stream until their next attempt, and is the driver that gives them back to one of the
// workers that share it. A delivery has at most one message of each of these subjects there:
//
//	<stream>_retries.<consumer>.park.<delivery>         until it is due: the server makes the next one of it then
//	<stream>_retries.<consumer>.due.<delivery>          from then on, until its outcome is stored
//	<stream>_retries.<consumer>.lane.<lane>.<delivery>  its place in a lane, see retry_lane.go
//	<stream>_retries.<consumer>.start.<delivery>        how often it was started as a suspect, see retry_suspects.go
//
// What replaces a message is stored before that goes, so that a crash between the two delivers twice and loses nothing.
// The server looks at the clock once a second, which is how late a delivery can be; what is due at once is not delayed.
type RetryQueue struct {
	subjects subjects
	cfg      RetryQueueConfig
	js       jetstream.JetStream
	stream   jetstream.Stream
	consumer jetstream.Consumer
	dead     *DeadLetters
	busy     func() []string // topics to leave alone; nil: none
	healed   time.Time       // used by Fetch only
	stop     func()          // ends keepAlive, and waits for it

	flushing sync.Mutex // held while outcomes are told

	mu       sync.Mutex       // guards what follows
	out      map[string]*hand // by delivery: what is handed out, or has an outcome that the server was not told yet
	settled  []*hand          // of those, what has an outcome
	suspects []*hand          // fetched, and waiting for their turn
	suspect  *hand            // the one that is out
	alone    bool             // nothing else may run beside it
}

var (
	_ middleware.RetryQueue = (*RetryQueue)(nil)
	_ window.Driver         = (*RetryQueue)(nil)
)

// OpenRetryQueue creates the stream and the consumer where they are missing.
func OpenRetryQueue(ctx context.Context, js jetstream.JetStream, cfg RetryQueueConfig) (*RetryQueue, error) {
	if cfg.Stream == "" || cfg.Consumer == "" || cfg.AckWait <= 0 || cfg.MaxDeliver < 1 {
		return nil, errors.New("retry queue: Stream, Consumer, AckWait and MaxDeliver are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dead, err := OpenDeadLetters(ctx, js, DeadLettersConfig{Stream: cfg.Stream, Consumer: cfg.Consumer, Replicas: cfg.Replicas})
	if err != nil {
		return nil, err
	}
	q := &RetryQueue{subjects: dead.subjects, cfg: cfg, js: js, stream: dead.retries, dead: dead, out: map[string]*hand{}}
	q.consumer, err = q.stream.CreateOrUpdateConsumer(ctx, cfg.consumer(q.subjects))
	if err != nil {
		return nil, wrap("create consumer of retries", err)
	}
	q.keepAlive()
	return q, nil
}

func (c RetryQueueConfig) consumer(s subjects) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: c.Consumer, FilterSubject: s.due("*"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.AckWait,
		MaxDeliver: -1, MaxAckPending: -1, // what is in hand is limited by the windows of the workers
	}
}

// keepAlive tells the server again and again what is in hand.
func (q *RetryQueue) keepAlive() {
	done, ended := make(chan struct{}), make(chan struct{})
	q.stop = sync.OnceFunc(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(q.cfg.AckWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for _, msg := range q.inHand() {
				_ = msg.InProgress() // without a connection nothing is told, and the server takes us for dead: so be it
			}
		}
	}()
}

func (q *RetryQueue) inHand() []jetstream.Msg {
	q.mu.Lock()
	defer q.mu.Unlock()
	msgs := make([]jetstream.Msg, 0, len(q.out)+len(q.suspects))
	for _, h := range q.out {
		msgs = append(msgs, h.msg)
	}
	for _, h := range q.suspects {
		msgs = append(msgs, h.msg)
	}
	return msgs
}

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	e := newEntry(d, notBefore)
	h := q.takenFrom(e)
	err := q.park(ctx, e, h)
	if err != nil && h != nil {
		q.leaveTo(h, false)
	}
	if unstorable(err) {
		err = event.Permanent(err)
	}
	return wrap("park delivery", err)
}

// takenFrom returns the hand-out that e is to replace, nil when there is none. It is marked before e is stored, which may
// be handed out at once.
func (q *RetryQueue) takenFrom(e *parkedEntry) *hand {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.out[e.key()]
	if h == nil {
		return nil
	}
	h.moved = true
	e.Parked = h.parkedEntry.Parked
	return h
}

func (q *RetryQueue) leaveTo(h *hand, moved bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h.moved = moved
}

func (q *RetryQueue) park(ctx context.Context, e *parkedEntry, from *hand) error {
	if e.Lane != "" {
		first, err := q.join(ctx, e)
		if err != nil || !first {
			return err
		}
	}
	if err := q.store(ctx, e); err != nil {
		return err
	}
	if from == nil {
		return q.replaceDue(ctx, e)
	}
	if from.parkedEntry.Lane != "" && from.parkedEntry.Lane != e.Lane {
		return q.leaveLane(ctx, from.parkedEntry)
	}
	return nil
}

// store makes e the entry of its delivery, on a condition perhaps. The message that says it is due, if there is one, stays
// where e is not due yet.
func (q *RetryQueue) store(ctx context.Context, e *parkedEntry, condition ...jetstream.PublishOpt) error {
	msg, err := e.message()
	if err != nil {
		return err
	}
	q.address(msg, e)
	if msg.Subject == q.subjects.due(e.key()) {
		msg.Header.Set("Nats-Scheduler", q.subjects.park(e.key())) // takes the scheduled message away in the same step
		msg.Header.Set("Nats-Schedule-Next", "purge")
	}
	_, err = q.js.PublishMsg(ctx, msg, condition...)
	return err
}

// address gives the message of e its subject, and what the server needs to give it the other one when it is due.
func (q *RetryQueue) address(msg *natsgo.Msg, e *parkedEntry) {
	msg.Subject = q.subjects.due(e.key())
	if time.Until(e.Due) > 0 {
		msg.Header.Set("Nats-Schedule", "@at "+e.Due.UTC().Format(time.RFC3339Nano))
		msg.Header.Set("Nats-Schedule-Target", msg.Subject)
		msg.Subject = q.subjects.park(e.key())
	}
}

// replaceDue takes away what said that the delivery of e is due when e says that it is not.
func (q *RetryQueue) replaceDue(ctx context.Context, e *parkedEntry) error {
	if time.Until(e.Due) <= 0 {
		return nil
	}
	due, err := lastMessage(ctx, q.stream, q.subjects.due(e.key()))
	if err != nil || due == nil {
		return err
	}
	return deleteMessage(ctx, q.stream, due.Sequence)
}

// unstorable reports whether no later try could store what was to be written.
func unstorable(err error) bool {
	return errors.Is(err, natsgo.ErrMaxPayload) || errors.Is(err, &jetstream.APIError{ErrorCode: codeTooLarge})
}
