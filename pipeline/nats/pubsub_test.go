package nats_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/window"
	"github.com/fraiseql/observer/pipeline/window/windowtest"
)

// pubSub makes publishers and subscribers of consumer groups over one server.
func pubSub(t *testing.T, drain time.Duration) func(t *testing.T, group string, size int) (message.Publisher, *window.Subscriber) {
	t.Helper()
	conn := connect(t, natsenv.JetStream(t))
	cfg := config()
	cfg.JetStream.Retention = "interest"
	return func(t *testing.T, group string, size int) (message.Publisher, *window.Subscriber) {
		t.Helper()
		sub, err := nats.NewSubscriber(nats.SubscriberConfig{Conn: conn, Config: cfg, Group: group, Size: size, DrainTimeout: drain})
		require.NoError(t, err)
		pub, err := nats.NewPublisher(nats.PublisherConfig{Conn: conn, Config: cfg})
		require.NoError(t, err)
		t.Cleanup(func() {
			_ = sub.Close() // not every test of the suites does
			_ = pub.Close()
		})
		return pub, sub
	}
}

func suite(t *testing.T, size int, ordered bool) (tests.Features, tests.PubSubConstructor, tests.ConsumerGroupPubSubConstructor) {
	t.Helper()
	create := pubSub(t, time.Second)
	features := tests.Features{
		ConsumerGroups: true, Persistent: true, ExactlyOnceDelivery: false,
		GuaranteedOrder: ordered, GuaranteedOrderWithSingleSubscriber: ordered,
	}
	group := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		return create(t, group, size)
	}
	return features, func(t *testing.T) (message.Publisher, message.Subscriber) { t.Helper(); return group(t, "default") }, group
}

func TestUniversalSuiteWithAWindowOf256(t *testing.T) {
	t.Parallel()
	features, pubSub, group := suite(t, 256, false)
	tests.TestPubSub(t, features, pubSub, group)
}

func TestUniversalSuiteInOrderWithAWindowOfOne(t *testing.T) {
	t.Parallel()
	features, pubSub, group := suite(t, 1, true)
	tests.TestPubSub(t, features, pubSub, group)
}

func TestSecondSuite(t *testing.T) {
	t.Parallel()
	create := pubSub(t, 10*time.Second)
	windowtest.Run(t, func(t *testing.T, size int) (message.Publisher, *window.Subscriber) {
		t.Helper()
		return create(t, "group", size)
	})
}
