package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/pipeline/window"
)

// SubscriberConfig describes a Subscriber for a Watermill program.
type SubscriberConfig struct {
	Pool   *pgxpool.Pool
	Config Config
	// Name of the consumer group: each has a checkpoint of its own for every topic. Default: the listener_name of Config.
	Name string
	// Size is how many messages are in flight at most. Default 256. With 1, messages come one after the other.
	Size int
	// DrainTimeout is how long Close waits for messages that are in flight. Default 25 s.
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// NewSubscriber returns a Watermill subscriber to the change log: the topic is an entity, or "*" for all. Of several
// subscribers with one name and topic, in any process, one receives and the others stand by.
//
// What was committed before SubscribeInitialize, or before the first Subscribe, is not delivered unless start_from says so.
func NewSubscriber(cfg SubscriberConfig) (*window.Subscriber, error) {
	if cfg.Pool == nil {
		return nil, errors.New("subscriber: Pool is required")
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Config.ListenerName
	}
	if cfg.Name == "" {
		return nil, errors.New("subscriber: Name is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return window.New(window.Config{
		Open: func(_ context.Context, topic string) (window.Driver, error) {
			return &candidate{cfg: cfg, topic: topic}, nil
		},
		Init: func(topic string) error {
			ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
			defer cancel()
			name := checkpointName(cfg.Name, topic)
			_, err := recognise(ctx, cfg.Pool, name)
			if err == nil {
				err = createCheckpoint(ctx, cfg.Pool, name, "now")
			}
			return wrap("initialize topic "+topic, err)
		},
		Size: cfg.Size, DrainTimeout: cfg.DrainTimeout, Log: cfg.Log,
	})
}

func checkpointName(name, topic string) string {
	if topic == allTopics {
		return name
	}
	return name + ":" + topic
}

// candidate is a driver that stands by until it leads, and again when it was deposed.
type candidate struct {
	cfg    SubscriberConfig
	topic  string
	lease  *Lease
	reader *Reader
}

var _ window.Driver = (*candidate)(nil)

// led is the Raw of an item: whose it is.
type led struct {
	reader *Reader
	entry  any
}

// Fetch implements window.Driver.
func (c *candidate) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	if c.reader == nil {
		if err := c.lead(ctx); err != nil {
			return nil, err
		}
	}
	items, err := c.reader.Fetch(ctx, limit)
	if errors.Is(err, ErrDeposed) {
		_ = c.resign(ctx)                                               // it says again that another leads
		return nil, fmt.Errorf("fetch from change log: %w", ErrDeposed) // not fatal: the next Fetch stands by
	}
	for i := range items {
		items[i].Raw = led{c.reader, items[i].Raw}
	}
	return items, err
}

func (c *candidate) lead(ctx context.Context) error {
	name := checkpointName(c.cfg.Name, c.topic)
	lease, err := Acquire(ctx, LeaseConfig{Pool: c.cfg.Pool, Config: c.cfg.Config, Name: name, StartFrom: c.cfg.Config.StartFrom, Log: c.cfg.Log})
	if err != nil {
		if IsFatal(err) {
			return window.Fatal(err)
		}
		return err
	}
	c.lease = lease
	c.reader = NewReader(ReaderConfig{Config: c.cfg.Config, Pool: c.cfg.Pool, Lease: lease, Topic: c.topic, Name: name, Log: c.cfg.Log})
	return nil
}

func (c *candidate) resign(ctx context.Context) error {
	if c.reader == nil {
		return nil
	}
	err := errors.Join(c.reader.Close(ctx), c.lease.Release(ctx))
	c.reader, c.lease = nil, nil
	return err
}

// Ack implements window.Driver. What an earlier leadership handed out belongs to its successor.
func (c *candidate) Ack(ctx context.Context, items []window.Item) error {
	byReader := make(map[*Reader][]window.Item, 1)
	for _, item := range items {
		if own, ok := item.Raw.(led); ok {
			byReader[own.reader] = append(byReader[own.reader], window.Item{Msg: item.Msg, Raw: own.entry})
		}
	}
	var err error
	for reader, list := range byReader {
		err = errors.Join(err, reader.Ack(ctx, list))
	}
	return err
}

// Nack implements window.Driver.
func (c *candidate) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	own, ok := item.Raw.(led)
	if !ok {
		return nil
	}
	return own.reader.Nack(ctx, window.Item{Msg: item.Msg, Raw: own.entry}, delay)
}

// Close implements window.Driver.
func (c *candidate) Close(ctx context.Context) error { return c.resign(ctx) }
