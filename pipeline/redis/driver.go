package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/window"
)

// DriverConfig describes a [Driver]. Client, Stream and Group are required.
type DriverConfig struct {
	Client        redis.UniversalClient // stays the caller's
	Stream, Group string
	// AckWait is after how long without a sign of life the entries of a consumer go to another. Default 30 s.
	AckWait time.Duration
	// MaxDeliver is how many starts without an outcome (the process died) make an entry poison. Default 3.
	MaxDeliver int
	Log        *slog.Logger
}

func (c *DriverConfig) complete() error {
	if c.Client == nil || c.Stream == "" || c.Group == "" {
		return errors.New("redis driver: Client, Stream and Group are required")
	}
	if c.AckWait <= 0 {
		c.AckWait = 30 * time.Second
	}
	if c.MaxDeliver <= 0 {
		c.MaxDeliver = 3
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Driver reads a stream as one consumer of a group. While it lives it renews its hold on what it was given; what a dead
// consumer held it takes over. Such entries are suspect: they are handed out one at a time, each with a durable start mark,
// and one that has a mark already while nothing else runs. What is settled leaves the stream, so that a stream
// has one group.
type Driver struct {
	cfg      DriverConfig
	consumer string
	marks    string        // key of the hash with the starts of suspects
	changed  chan struct{} // one slot: a second signal before the first is seen tells nothing new
	stop     context.CancelFunc
	beating  sync.WaitGroup

	looked, swept time.Time // used by Fetch only
	unsure        bool      // used by Fetch only: an answer got lost, and with it perhaps entries
	wary          time.Time // used by Fetch only: until then a read whose answer got lost may still be carried out
	pulse         pulse

	telling sync.Mutex // held while the server is told what is settled, or asked what is this consumer's: an answer must not be older than what was told

	mu      sync.Mutex        // guards what follows
	entries map[string]*entry // what is this consumer's in the group, by id
	running int               // entries that are handed out
	suspect *entry            // the one that is handed out
}

var _ window.Driver = (*Driver)(nil)

type state int

const (
	waiting state = iota // to be handed out, when due
	running
	settled // the server was not told yet
)

// entry is one entry of the stream that is this consumer's.
type entry struct {
	redis.XMessage
	ms, seq uint64 // of its id
	state   state
	due     time.Time
	suspect bool
	marks   int  // starts of a suspect without an outcome
	lost    bool // another consumer took it while it ran here
}

// OpenDriver creates the group where it is not there, for all that is in the stream, and returns a consumer of it.
func OpenDriver(ctx context.Context, cfg DriverConfig) (*Driver, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for who reads XINFO CONSUMERS
	d := &Driver{
		cfg:      cfg,
		consumer: host + "-" + rand.Text(),
		marks:    cfg.Stream + ":starts",
		changed:  make(chan struct{}, 1),
		entries:  map[string]*entry{},
	}
	if err := createGroup(ctx, cfg.Client, cfg.Stream, cfg.Group); err != nil {
		return nil, err
	}
	d.pulse.begin(time.Now())
	beat, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.beating.Go(func() { d.heartbeat(beat) })
	return d, nil
}

// createGroup refuses to be a second group: each would delete what the other has not read.
func createGroup(ctx context.Context, client redis.UniversalClient, stream, group string) error {
	groups, err := client.XInfoGroups(ctx, stream).Result()
	if err != nil && !strings.Contains(err.Error(), "no such key") {
		return fmt.Errorf("read groups of stream %s: %w", stream, err)
	}
	for _, g := range groups {
		if g.Name != group {
			return window.Fatal(fmt.Errorf("stream %s has the consumer group %s: what the group %s has settled is deleted, so give it a stream of its own, or: redis-cli XGROUP DESTROY %s %s",
				stream, g.Name, group, stream, g.Name))
		}
	}
	err = client.XGroupCreateMkStream(ctx, stream, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("create consumer group %s of stream %s: %w", group, stream, err)
	}
	return nil
}

func (d *Driver) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}
