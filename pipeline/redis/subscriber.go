package redis

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/window"
)

// groupTimeout bounds the creation of a consumer group.
const groupTimeout = 10 * time.Second

// SubscriberConfig describes a subscriber for a Watermill program. Client and Group are required.
type SubscriberConfig struct {
	Client redis.UniversalClient // stays the caller's
	Group  string
	// AckWait is as in [DriverConfig].
	AckWait time.Duration
	// Size is how many messages are in flight at most. Default 256. With 1, messages come one after the other.
	Size int
	// DrainTimeout is how long Close waits for messages that are in flight. Default 25 s.
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// NewSubscriber returns a Watermill subscriber: the topic is the stream. Subscribers of one group share its messages. What
// was published before the group was created is delivered as well, and what was acked leaves the stream.
func NewSubscriber(cfg SubscriberConfig) (*window.Subscriber, error) {
	if cfg.Client == nil || cfg.Group == "" {
		return nil, errors.New("subscriber: Client and Group are required")
	}
	return window.New(window.Config{
		Open: func(ctx context.Context, topic string) (window.Driver, error) {
			return OpenDriver(ctx, DriverConfig{Client: cfg.Client, Stream: topic, Group: cfg.Group, AckWait: cfg.AckWait, Log: cfg.Log})
		},
		Init: func(topic string) error {
			ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
			defer cancel()
			return createGroup(ctx, cfg.Client, topic, cfg.Group)
		},
		Size: cfg.Size, DrainTimeout: cfg.DrainTimeout, Log: cfg.Log,
	})
}
