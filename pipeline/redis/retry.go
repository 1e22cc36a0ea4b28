package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// RetryQueueConfig describes a [RetryQueue]. Client and Stream are required.
type RetryQueueConfig struct {
	Client redis.UniversalClient // stays the caller's
	Stream string                // whose retries they are
	// AckWait is after how long without a sign of life the deliveries of a worker go to another. Default 30 s.
	AckWait time.Duration
	// MaxDeliver is how many starts without an outcome (the process died) make a delivery a dead letter. Default 3. The first is
	// presumed of everything that a dead worker had, so fewer than two cannot be told apart.
	MaxDeliver int
	Log        *slog.Logger
}

// RetryQueue keeps deliveries at the server until their next attempt and feeds them back when due, to one of the workers
// that share it. The clock is the server's. What a dead worker had is suspect: a worker runs one suspect at a time, each
// with a durable start mark, and one that has a mark already while it takes nothing else. Only such marks count as starts.
type RetryQueue struct {
	cfg  RetryQueueConfig
	dead *DeadLetters
	busy func() []string // topics to leave alone; nil: none
	poke chan struct{}   // one slot: a second poke before the first is seen tells nothing new

	starting sync.Once // of the heartbeat
	ending   sync.Once
	stop     chan struct{}
	beating  sync.WaitGroup

	mu      sync.Mutex         // guards what follows
	claims  map[handout]string // what is out: ""; what the server was not told yet: the outcome, see settleRetries
	suspect handout            // the one that is out
	alone   bool               // nothing else may be taken beside it
}

// handout identifies one hand-out of a delivery.
type handout struct {
	id     string
	number int64
}

var (
	_ middleware.RetryQueue = (*RetryQueue)(nil)
	_ window.Driver         = (*RetryQueue)(nil)
)

// NewRetryQueue returns the retry queue of a stream.
func NewRetryQueue(cfg RetryQueueConfig) (*RetryQueue, error) {
	if cfg.Client == nil || cfg.Stream == "" {
		return nil, errors.New("retry queue: Client and Stream are required")
	}
	if cfg.AckWait <= 0 {
		cfg.AckWait = 30 * time.Second
	}
	if cfg.MaxDeliver <= 0 {
		cfg.MaxDeliver = 3
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &RetryQueue{
		cfg:    cfg,
		dead:   &DeadLetters{Client: cfg.Client, Stream: cfg.Stream},
		poke:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		claims: map[handout]string{},
	}, nil
}

// Avoid sets what lists the topics for which nothing is to be handed out for now, and must be called before the first Fetch.
func (q *RetryQueue) Avoid(busy func() []string) { q.busy = busy }

// Park implements middleware.RetryQueue.
func (q *RetryQueue) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	return q.park(ctx, "replace", []dispatch.Spilled{{Delivery: d, NotBefore: notBefore}}, time.Now())
}

// Spill parks deliveries that have not failed, in their order. One that is parked already stays as it is.
func (q *RetryQueue) Spill(ctx context.Context, list []dispatch.Spilled) error {
	now := time.Now() // one for all, or those that are due together would leave in reverse
	for some := range slices.Chunk(list, batchSize) {
		if err := q.park(ctx, "keep", some, now); err != nil {
			return err
		}
	}
	return nil
}

// park gives the time until a delivery is due, not the time of day: the clock of this machine may be wrong.
func (q *RetryQueue) park(ctx context.Context, there string, list []dispatch.Spilled, now time.Time) error {
	args := []any{there}
	for _, s := range list {
		d := s.Delivery
		attempts, err := encodeAttempts(d)
		if err != nil {
			return err
		}
		args = append(args, identity(d), dispatch.Topic(d.Observer, d.Action), laneOf(d), d.Generation, d.Event.Entity,
			d.Event.JSON(), attempts, max(0, s.NotBefore.Sub(now)).Microseconds())
	}
	if err := parkDeliveries.Run(ctx, q.cfg.Client, []string{q.cfg.Stream}, args...).Err(); err != nil {
		return fmt.Errorf("park delivery: %w", err)
	}
	q.wake()
	return nil
}

// identity is what there is one parked delivery, and one dead letter, of.
func identity(d *event.Delivery) string {
	return d.Event.ID + separator + d.Observer + separator + d.Action
}

// separator is no part of an event id or a name.
const separator = "\x1f"

// partsOf takes an identity, or the name of a lane, apart.
func partsOf(id string) (first, second, third string) {
	first, rest, _ := strings.Cut(id, separator)
	second, third, _ = strings.Cut(rest, separator)
	return first, second, third
}

// laneOf names a lane of the queue, "" is none.
func laneOf(d *event.Delivery) string {
	if d.Lane == "" {
		return ""
	}
	return d.Observer + separator + d.Action + separator + d.Lane
}

// encodeAttempts marks each attempt with its generation: those that were not there before are of the present one.
func encodeAttempts(d *event.Delivery) ([]byte, error) {
	list := make([]event.Attempt, len(d.Attempts))
	for i, a := range d.Attempts {
		list[i] = a
		if i >= d.Prior {
			list[i].Generation = d.Generation
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode attempts: %w", err)
	}
	return b, nil
}

// Lanes lists the lanes that are parked.
func (q *RetryQueue) Lanes(ctx context.Context) ([]dispatch.Lane, error) {
	rows, err := parkedLanes.Run(ctx, q.cfg.Client, []string{q.cfg.Stream}).Slice()
	if err != nil {
		return nil, fmt.Errorf("read parked lanes: %w", err)
	}
	lanes := make([]dispatch.Lane, 0, len(rows)/2)
	for i := 0; i+1 < len(rows); i += 2 {
		observer, action, name := partsOf(rows[i].(string))
		lanes = append(lanes, dispatch.Lane{Observer: observer, Action: action, Name: name, Parked: int(rows[i+1].(int64))})
	}
	return lanes, nil
}

// Waiting returns how many deliveries are parked or handed out for another attempt, and for how long the oldest of them
// has been so.
func (q *RetryQueue) Waiting(ctx context.Context) (n int64, oldest time.Duration, err error) {
	row, err := waitingSince.Run(ctx, q.cfg.Client, []string{q.cfg.Stream + ":retries:since"}).Int64Slice()
	if err != nil {
		return 0, 0, fmt.Errorf("count parked deliveries: %w", err)
	}
	return row[0], time.Duration(row[1]) * time.Microsecond, nil
}

func (q *RetryQueue) wake() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}
