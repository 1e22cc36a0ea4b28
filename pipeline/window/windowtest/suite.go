// Package windowtest is the second conformance suite of a transport: what Watermill's universal suite does not catch.
// Every driver runs both.
package windowtest

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/pipeline/window"
)

// PubSub makes a publisher, and a subscriber of the consumer group "group" whose drain timeout is ten seconds. Calls for
// one test share one broker. size is the window.
type PubSub func(t *testing.T, size int) (message.Publisher, *window.Subscriber)

const patience = 60 * time.Second

// Run runs the suite.
func Run(t *testing.T, pubSub PubSub) {
	t.Helper()
	run(t, func(t *testing.T, test func(*testing.T, PubSub)) { t.Helper(); test(t, pubSub) })
}

// RunInBubbles runs the suite by the clock of [synctest], each test with a PubSub of its own. It is for what has no server.
func RunInBubbles(t *testing.T, build func() PubSub) {
	t.Helper()
	run(t, func(t *testing.T, test func(*testing.T, PubSub)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { test(t, build()) })
	})
}

func run(t *testing.T, within func(*testing.T, func(*testing.T, PubSub))) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, PubSub){
		"what is in flight at a shutdown is settled and does not come again":  drains,
		"a handler that takes long gets its message once":                     staysOut,
		"a message that is nacked each time does not spin":                    coolsDown,
		"one message that does not settle stops no other":                     flowsAround,
		"a router that is closed under load panics nowhere and loses nothing": closesUnderLoad,
		"a message lives through the shutdown that it is part of":             livesOn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, test)
		})
	}
}

func topicOf(t *testing.T, subscriber *window.Subscriber) string {
	t.Helper()
	topic := "topic_" + watermill.NewShortUUID()
	require.NoError(t, subscriber.SubscribeInitialize(topic))
	return topic
}

func publish(t *testing.T, publisher message.Publisher, topic string, n int) []string {
	t.Helper()
	msgs, ids := make([]*message.Message, n), make([]string, n)
	for i := range msgs {
		ids[i] = watermill.NewUUID()
		msgs[i] = message.NewMessage(ids[i], []byte(strconv.Itoa(i)))
	}
	require.NoError(t, publisher.Publish(topic, msgs...))
	return ids
}

func receive(t *testing.T, from <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-from:
		require.True(t, ok, "the subscription has ended")
		return msg
	case <-time.After(patience):
		require.Fail(t, "no message came")
		return nil
	}
}

// seen counts the deliveries of each message.
type seen struct {
	mu    sync.Mutex // guards times
	times map[string]int
}

func (s *seen) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil {
		s.times = map[string]int{}
	}
	s.times[id]++
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

func (s *seen) exactlyOnce(t *testing.T, ids []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		require.Equal(t, 1, s.times[id], "deliveries of %s", id)
	}
	require.Len(t, s.times, len(ids))
}

// rest reads what a fresh subscriber of the group still gets: until n messages have been seen, and then until nothing has
// come for a moment.
func rest(t *testing.T, pubSub PubSub, topic string, into *seen, n int) {
	t.Helper()
	_, sub := pubSub(t, 256)
	msgs, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	for {
		wait := time.Second
		if into.count() < n {
			wait = patience
		}
		select {
		case msg := <-msgs:
			into.add(msg.UUID)
			msg.Ack()
		case <-time.After(wait):
			require.NoError(t, sub.Close())
			return
		}
	}
}

func drains(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 50)
	topic := topicOf(t, sub)
	ids := publish(t, pub, topic, 200)
	msgs, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	var handled seen
	var handlers sync.WaitGroup
	for range 50 {
		msg := receive(t, msgs)
		handlers.Go(func() {
			<-time.After(300 * time.Millisecond)
			handled.add(msg.UUID)
			msg.Ack()
		})
	}
	require.NoError(t, sub.Close())
	handlers.Wait()
	rest(t, pubSub, topic, &handled, len(ids))
	handled.exactlyOnce(t, ids)
}

func staysOut(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 10)
	topic := topicOf(t, sub)
	publish(t, pub, topic, 1)
	msgs, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	msg := receive(t, msgs)
	select {
	case again := <-msgs:
		require.Fail(t, "came again", again.UUID)
	case <-time.After(5 * time.Second):
	}
	msg.Ack()
	require.NoError(t, sub.Close())
}

func coolsDown(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 10)
	topic := topicOf(t, sub)
	publish(t, pub, topic, 1)
	msgs, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	n := 0
	for end := time.After(2 * time.Second); ; n++ {
		select {
		case msg := <-msgs:
			msg.Nack()
			continue
		case <-end:
		}
		break
	}
	require.GreaterOrEqual(t, n, 2, "it must come again")
	require.LessOrEqual(t, n, 40, "redeliveries in two seconds")
	require.NoError(t, sub.Close())
}

func flowsAround(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 20)
	topic := topicOf(t, sub)
	ids := publish(t, pub, topic, 500)
	msgs, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	stuck := receive(t, msgs)
	var got seen
	got.add(stuck.UUID)
	for range len(ids) - 1 {
		msg := receive(t, msgs)
		got.add(msg.UUID)
		msg.Ack()
	}
	stuck.Ack()
	require.NoError(t, sub.Close())
	rest(t, pubSub, topic, &got, len(ids))
	got.exactlyOnce(t, ids)
}

func closesUnderLoad(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 100)
	topic := topicOf(t, sub)
	ids := publish(t, pub, topic, 2000)
	var handled seen
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: patience}, watermill.NopLogger{})
	require.NoError(t, err)
	started := make(chan struct{}, len(ids))
	router.AddConsumerHandler("h", topic, sub, func(msg *message.Message) error {
		handled.add(msg.UUID)
		started <- struct{}{}
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(t.Context())) }()
	for range 200 {
		<-started
	}
	require.NoError(t, router.Close())
	require.NoError(t, <-ended)
	rest(t, pubSub, topic, &handled, len(ids))
	handled.exactlyOnce(t, ids)
}

func livesOn(t *testing.T, pubSub PubSub) {
	t.Helper()
	pub, sub := pubSub(t, 10)
	topic := topicOf(t, sub)
	publish(t, pub, topic, 3)
	ctx, cancel := context.WithCancel(t.Context())
	msgs, err := sub.Subscribe(ctx, topic)
	require.NoError(t, err)
	open := []*message.Message{receive(t, msgs), receive(t, msgs)}
	cancel()
	select {
	case <-open[0].Context().Done():
		require.Fail(t, "the shutdown cancelled a message in flight")
	case <-time.After(300 * time.Millisecond):
	}
	for _, msg := range slices.Backward(open) {
		msg.Ack()
	}
	require.NoError(t, sub.Wait())
}
