package memory_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/memory"
	"github.com/fraiseql/observer/pipeline/window"
	"github.com/fraiseql/observer/pipeline/window/windowtest"
)

func TestMain(m *testing.M) {
	// The tests of the universal suite wait for time-outs: more of them run at once than there are processors, unless
	// -parallel says otherwise.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func suite(size int, ordered bool) (tests.Features, tests.PubSubConstructor, tests.ConsumerGroupPubSubConstructor) {
	broker := memory.NewBroker(0)
	features := tests.Features{
		ConsumerGroups: true, Persistent: true, ExactlyOnceDelivery: true,
		GuaranteedOrder: ordered, GuaranteedOrderWithSingleSubscriber: ordered,
	}
	group := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		sub, err := memory.NewSubscriber(broker, group, window.Config{Size: size, DrainTimeout: time.Second})
		require.NoError(t, err)
		return memory.NewPublisher(broker), sub
	}
	return features, func(t *testing.T) (message.Publisher, message.Subscriber) { t.Helper(); return group(t, "default") }, group
}

func TestUniversalSuiteWithAWindowOf256(t *testing.T) {
	t.Parallel()
	features, pubSub, group := suite(256, false)
	tests.TestPubSub(t, features, pubSub, group)
}

func TestUniversalSuiteInOrderWithAWindowOfOne(t *testing.T) {
	t.Parallel()
	features, pubSub, group := suite(1, true)
	tests.TestPubSub(t, features, pubSub, group)
}

func TestUniversalStressSuite(t *testing.T) {
	t.Parallel()
	features, pubSub, group := suite(256, false)
	tests.TestPubSubStressTest(t, features, pubSub, group)
}

func TestSecondSuite(t *testing.T) {
	t.Parallel()
	windowtest.RunInBubbles(t, func() windowtest.PubSub {
		broker := memory.NewBroker(0)
		return func(t *testing.T, size int) (message.Publisher, *window.Subscriber) {
			t.Helper()
			sub, err := memory.NewSubscriber(broker, "group", window.Config{Size: size, DrainTimeout: 10 * time.Second})
			require.NoError(t, err)
			return memory.NewPublisher(broker), sub
		}
	})
}
