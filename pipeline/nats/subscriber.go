package nats

import (
	"context"
	"errors"
	"log/slog"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer/pipeline/window"
)

// setupTimeout is how long a subscriber waits for the server to make what it needs.
const setupTimeout = 30 * time.Second

// SubscriberConfig describes a Subscriber for a Watermill program.
type SubscriberConfig struct {
	Conn   *natsgo.Conn // required
	Config Config
	// Group is the consumer group: its members share the messages of a topic. Default: the consumer_name of Config. With
	// the retention "workqueue", a stream has one group for each topic.
	Group string
	// Size is how many messages are in flight at most, over all members. Default 256. With 1, messages come one after the other.
	Size int
	// DrainTimeout is how long Close waits for messages that are in flight. Default 25 s.
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// NewSubscriber returns a Watermill subscriber to the event stream, which it creates: the topic is an entity, or "*" for all.
// The messages need not be events.
func NewSubscriber(cfg SubscriberConfig) (*window.Subscriber, error) {
	if cfg.Conn == nil {
		return nil, errors.New("subscriber: Conn is required")
	}
	if cfg.Group == "" {
		cfg.Group = cfg.Config.ConsumerName
	}
	if cfg.Group == "" {
		return nil, errors.New("subscriber: Group is required")
	}
	if cfg.Size <= 0 {
		cfg.Size = 256
	}
	cfg.Config.ConsumerName = "" // a consumer of all topics is one of those that are asked for
	return window.New(window.Config{
		Open: cfg.open,
		Init: func(topic string) error {
			_, err := cfg.open(context.Background(), topic)
			return err
		},
		Size: cfg.Size, DrainTimeout: cfg.DrainTimeout, Log: cfg.Log,
	})
}

func (c SubscriberConfig) open(ctx context.Context, topic string) (window.Driver, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	topology, err := Setup(ctx, c.Conn, nil, c.Config, c.Size)
	if err != nil {
		return nil, err
	}
	if _, err := topology.Consumer(ctx, c.Group, topic); err != nil {
		return nil, err
	}
	return NewDriver(DriverConfig{Topology: topology, Group: c.Group, Topic: topic, Opaque: true, Log: c.Log})
}
