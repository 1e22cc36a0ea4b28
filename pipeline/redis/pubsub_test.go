package redis_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/redisconn"
	"github.com/fraiseql/observer/internal/secret"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/redis"
	"github.com/fraiseql/observer/pipeline/window"
	"github.com/fraiseql/observer/pipeline/window/windowtest"
)

func subscriber(t *testing.T, size int, drain time.Duration) (message.Publisher, *window.Subscriber) {
	t.Helper()
	client := open(t, testenv.Redis(t))
	sub, err := redis.NewSubscriber(redis.SubscriberConfig{Client: client, Group: "group", Size: size, AckWait: 3 * time.Second, DrainTimeout: drain})
	require.NoError(t, err)
	return redis.NewPublisher(client, ""), sub
}

func suite(t *testing.T, size int, ordered bool) {
	t.Helper()
	tests.TestPubSub(t, tests.Features{Persistent: true, ExactlyOnceDelivery: true, GuaranteedOrderWithSingleSubscriber: ordered},
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			t.Helper()
			return subscriber(t, size, time.Second)
		}, nil)
}

func TestUniversalSuiteWithAWindowOf256(t *testing.T) {
	t.Parallel()
	suite(t, 256, false)
}

func TestUniversalSuiteInOrderWithAWindowOfOne(t *testing.T) {
	t.Parallel()
	suite(t, 1, true)
}

func TestSecondSuite(t *testing.T) {
	t.Parallel()
	windowtest.Run(t, func(t *testing.T, size int) (message.Publisher, *window.Subscriber) {
		t.Helper()
		return subscriber(t, size, 10*time.Second)
	})
}

func TestWatermillsOwnSubscriberReadsWhatIsPublished(t *testing.T) {
	t.Parallel()
	client := open(t, testenv.Redis(t))
	stream := "stream_" + watermill.NewShortUUID()
	e := &event.Event{ID: watermill.NewUUID(), Type: event.Insert, Entity: "Order", EntityID: "7", Data: []byte(`{"id":7}`), Timestamp: time.Now().UTC()}
	require.NoError(t, redis.NewPublisher(client, stream).PublishEvents(t.Context(), []*event.Event{e}))

	stock, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{Client: sharedClient(t), ConsumerGroup: "stock"}, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, stock.Close()) }()
	msgs, err := stock.Subscribe(t.Context(), stream)
	require.NoError(t, err)
	msg := <-msgs
	require.Equal(t, e.ID, msg.UUID)
	require.JSONEq(t, string(e.JSON()), string(msg.Payload))
	msg.Ack()
}

func TestAClusterIsRefusedByName(t *testing.T) {
	t.Parallel()
	check := func(url string) error { return redis.Check(redisconn.Config{URL: secret.String(url)}) }
	require.NoError(t, check("redis://host"))
	require.NoError(t, check("redis://a?master_name=shop&addr=b:2"))
	require.ErrorContains(t, check("redis://a:1?addr=b:2"), "the Cluster at a:1, b:2")
}

// sharedClient is for a subscriber that closes it.
func sharedClient(t *testing.T) goredis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(redisconn.Config{URL: secret.String(testenv.Redis(t)), PoolSize: 10, ConnectTimeoutSecs: 5, CommandTimeoutSecs: 2})
	require.NoError(t, err)
	return client
}
