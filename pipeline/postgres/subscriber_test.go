package postgres

import (
	"testing"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/window"
	"github.com/fraiseql/observer/pipeline/window/windowtest"
)

// universal runs Watermill's conformance suite over a window of the given size.
func universal(t *testing.T, size int, run func(t *testing.T, f tests.Features, c tests.PubSubConstructor, g tests.ConsumerGroupPubSubConstructor)) {
	t.Helper()
	h := newTestRig(t)
	group := func(t *testing.T, name string) (message.Publisher, message.Subscriber) {
		t.Helper()
		pub, err := NewPublisher(wsql.BeginnerFromPgx(h.pool))
		require.NoError(t, err)
		sub, err := NewSubscriber(SubscriberConfig{Pool: h.pool, Config: h.cfg, Name: name, Size: size, DrainTimeout: 5 * time.Second, Log: h.log})
		require.NoError(t, err)
		return pub, sub
	}
	run(t, tests.Features{
		ConsumerGroups:                      true,
		ExactlyOnceDelivery:                 false,
		GuaranteedOrder:                     size == 1,
		GuaranteedOrderWithSingleSubscriber: size == 1,
		Persistent:                          true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return group(t, "observer")
	}, group)
}

func TestUniversalSuiteWithAWindowOf256(t *testing.T) {
	universal(t, 256, tests.TestPubSub)
}

func TestUniversalSuiteInOrder(t *testing.T) {
	universal(t, 1, tests.TestPubSub)
}

func TestSecondSuite(t *testing.T) {
	h := newTestRig(t)
	windowtest.Run(t, func(t *testing.T, size int) (message.Publisher, *window.Subscriber) {
		t.Helper()
		pub, err := NewPublisher(wsql.BeginnerFromPgx(h.pool))
		require.NoError(t, err)
		sub, err := NewSubscriber(SubscriberConfig{Pool: h.pool, Config: h.cfg, Name: "group", Size: size, DrainTimeout: 10 * time.Second, Log: h.log})
		require.NoError(t, err)
		return pub, sub
	})
}
