package redis_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/pipeline/redis"
	"github.com/fraiseql/observer/pipeline/window"
)

func driver(t *testing.T, client goredis.UniversalClient, stream string) *redis.Driver {
	t.Helper()
	d, err := redis.OpenDriver(t.Context(), redis.DriverConfig{Client: client, Stream: stream, Group: "group", AckWait: ackWait, MaxDeliver: 3})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = d.Close(ctx) // again where a test closed it
	})
	return d
}

// killed returns a driver of a process that dies while it holds n entries.
func killed(t *testing.T, client goredis.UniversalClient, stream string, n int) []window.Item {
	t.Helper()
	d, err := redis.OpenDriver(t.Context(), redis.DriverConfig{Client: client, Stream: stream, Group: "group", AckWait: ackWait, MaxDeliver: 3})
	require.NoError(t, err)
	items := fetch(t, d, n)
	redis.KillDriver(d)
	return items
}

func events(n int) (list []*event.Event) {
	for i := range n {
		list = append(list, delivery(strconv.Itoa(i), "", "").Event)
	}
	return list
}

func publish(t *testing.T, client goredis.UniversalClient, stream string, list []*event.Event) {
	t.Helper()
	require.NoError(t, redis.NewPublisher(client, stream).PublishEvents(t.Context(), list))
}

func ids(items []window.Item) (list []string) {
	for _, item := range items {
		list = append(list, item.Msg.UUID)
	}
	return list
}

func eventIDs(list []*event.Event) (all []string) {
	for _, e := range list {
		all = append(all, e.ID)
	}
	return all
}

func TestEventsComeInOrderAndLeaveTheStream(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(700)
	publish(t, client, stream, list)
	d := driver(t, client, stream)
	items := fetch(t, d, 700)
	require.Equal(t, eventIDs(list), ids(items))
	require.Equal(t, string(list[0].JSON()), string(event.OfContext(items[0].Msg.Context()).JSON()))
	require.NoError(t, d.Ack(t.Context(), items))
	require.Zero(t, client.XLen(t.Context(), stream).Val())
	require.Zero(t, client.XPending(t.Context(), stream, "group").Val().Count)
	require.NoError(t, d.Close(t.Context()))
	require.Empty(t, client.XInfoConsumers(t.Context(), stream, "group").Val(), "it holds nothing, so it is gone")
}

// TestWhatIsSettledLeavesTheStreamAndNothingElseDoes settles at random, while a consumer beside holds some for long.
func TestWhatIsSettledLeavesTheStreamAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(1500)
	publish(t, client, stream, list)
	left := map[string]bool{}
	for _, e := range list {
		left[e.ID] = true
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	slow, quick := driver(t, client, stream), driver(t, client, stream)
	settle := func(d *redis.Driver, items []window.Item) {
		require.NoError(t, d.Ack(t.Context(), items))
		for _, item := range items {
			delete(left, item.Msg.UUID)
		}
		require.Equal(t, slices.Sorted(maps.Keys(left)), slices.Sorted(slices.Values(messages(t, client, stream))))
	}
	held, out := fetch(t, slow, 5), []window.Item(nil)
	for len(left) > 0 {
		if more := min(random.IntN(250), len(left)-len(held)-len(out)); more > 0 {
			out = append(out, fetch(t, quick, more)...)
		}
		if random.IntN(2) == 0 {
			random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		some := random.IntN(len(out) + 1)
		settle(quick, out[:some])
		out = out[some:]
		if random.IntN(5) == 0 {
			settle(slow, held)
			held = fetch(t, slow, min(5, len(left)-len(out)))
		}
	}
	require.Zero(t, client.XPending(t.Context(), stream, "group").Val().Count)
}

// TestWhatAnOperatorSetsTheGroupBackToStays: what is to come again lies before what is pending.
func TestWhatAnOperatorSetsTheGroupBackToStays(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(10)
	publish(t, client, stream, list)
	client.XGroupCreate(t.Context(), stream, "group", "0")
	read := &goredis.XReadGroupArgs{Streams: []string{stream, ">"}, Group: "group", Consumer: "lost", Count: 4}
	require.Len(t, client.XReadGroup(t.Context(), read).Val()[0].Messages, 4)
	require.EqualValues(t, 4, client.XGroupDelConsumer(t.Context(), stream, "group", "lost").Val(), "nobody holds them any more")
	d := driver(t, client, stream)
	items := fetch(t, d, 6)
	require.NoError(t, d.Ack(t.Context(), items[:2])) // trimming up to what is pending would take the four
	require.NoError(t, client.XGroupSetID(t.Context(), stream, "group", "0").Err())
	require.NoError(t, d.Ack(t.Context(), items[2:5]))
	require.Equal(t, eventIDs(append(slices.Clone(list[:4]), list[9])), messages(t, client, stream))
	require.NoError(t, d.Ack(t.Context(), items[5:]))
	require.Equal(t, eventIDs(list[:4]), ids(fetch(t, d, 4)))
}

func TestWhatWasInWorkWhenTheServerLostAllItHadIsSettled(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(3))
	d := driver(t, client, stream)
	items := fetch(t, d, 3)
	require.NoError(t, client.Del(t.Context(), stream).Err())
	require.NoError(t, d.Ack(t.Context(), items[:1]))
	list := events(1)
	later(t, client)
	publish(t, client, stream, list) // without a group
	require.NoError(t, d.Ack(t.Context(), items[1:]))
	require.Equal(t, eventIDs(list), ids(fetch(t, d, 1)))
}

// later waits until the server gives entries other ids: it makes them of its time in milliseconds, also in a stream that was
// deleted and has none yet.
func later(t *testing.T, client goredis.UniversalClient) {
	t.Helper()
	begun := client.Time(t.Context()).Val()
	testenv.Eventually(t, 20*time.Second, func() error {
		if now := client.Time(t.Context()).Val(); now.Sub(begun) <= time.Millisecond {
			return errors.New("it is the same millisecond")
		}
		return nil
	})
}

// messages lists what is in a stream.
func messages(t *testing.T, client goredis.UniversalClient, stream string) (list []string) {
	t.Helper()
	for _, entry := range client.XRange(t.Context(), stream, "-", "+").Val() {
		list = append(list, entry.Values["_watermill_message_uuid"].(string))
	}
	return list
}

func TestForeignEntriesBecomePoisonAndStopNobody(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	require.NoError(t, client.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: map[string]any{"temperature": "21"}}).Err())
	require.NoError(t, client.XAdd(t.Context(), &goredis.XAddArgs{Stream: stream, Values: map[string]any{"_watermill_message_uuid": "1", "metadata": "\xc1", "payload": "x"}}).Err())
	require.NoError(t, redis.NewPublisher(client, stream).Publish(stream, message.NewMessage("2", []byte("no JSON"))))
	publish(t, client, stream, events(1))
	d := driver(t, client, stream)
	items := fetch(t, d, 4)
	for i, reason := range []string{"_watermill_message_uuid key is missing", "unmarshal metadata", "", ""} {
		got := items[i].Msg.Metadata.Get(window.MetadataPoison)
		require.Equal(t, reason != "", got != "", "entry %d", i)
		require.Contains(t, got, reason)
	}
	require.JSONEq(t, `{"temperature":"21"}`, string(items[0].Msg.Payload))
	require.Equal(t, "no JSON", string(items[2].Msg.Payload))
	require.NoError(t, d.Ack(t.Context(), items))
	require.Zero(t, client.XLen(t.Context(), stream).Val())
}

func TestAnEventWithoutAnIDHasThatOfItsMessageEachTime(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	id := uuid.NewString()
	require.NoError(t, redis.NewPublisher(client, "").Publish(stream, message.NewMessage(id, []byte(`{"entity_type":"Order","data":{}}`))))
	require.Equal(t, id, event.OfContext(fetch(t, driver(t, client, stream), 1)[0].Msg.Context()).ID)
}

func TestWhatAKilledConsumerHeldIsClaimedOneAtATime(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(3))
	begun := time.Now()
	held := killed(t, client, stream, 3)
	publish(t, client, stream, events(1))
	d := driver(t, client, stream)
	fresh := fetch(t, d, 1)
	require.NotContains(t, ids(held), fresh[0].Msg.UUID)
	for i := range 3 {
		items, err := d.Fetch(soon(t), 10)
		require.NoError(t, err)
		require.Equal(t, []string{held[i].Msg.UUID}, ids(items), "the same message, alone of its kind")
		require.GreaterOrEqual(t, time.Since(begun), ackWait)
		nothing(t, d)
		require.NoError(t, d.Ack(t.Context(), items))
	}
	require.NoError(t, d.Ack(t.Context(), fresh))
	require.Zero(t, client.XLen(t.Context(), stream).Val())
	require.Zero(t, client.HLen(t.Context(), stream+":starts").Val(), "no mark is left")
}

func TestAnEntryThatEndsItsProcessEachTimeBecomesPoison(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(1))
	for range 3 {
		items := killed(t, client, stream, 1)
		require.Empty(t, items[0].Msg.Metadata.Get(window.MetadataPoison))
	}
	d := driver(t, client, stream)
	items := fetch(t, d, 1)
	require.Contains(t, items[0].Msg.Metadata.Get(window.MetadataPoison), "started 3 times without an outcome")
	require.Equal(t, "poison", items[0].Msg.Metadata.Get(window.MetadataPoisonClass))
	require.NoError(t, d.Ack(t.Context(), items))
	require.Zero(t, client.HLen(t.Context(), stream+":starts").Val())
}

func TestAMarkedSuspectWaitsUntilNothingElseRuns(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(1))
	killed(t, client, stream, 1)
	suspect := killed(t, client, stream, 1) // with a mark
	publish(t, client, stream, events(2))
	d := driver(t, client, stream)
	fresh := fetch(t, d, 1)
	testenv.Eventually(t, 20*time.Second, func() error { // until it is claimed
		p, err := client.XPendingExt(t.Context(), &goredis.XPendingExtArgs{Stream: stream, Group: "group", Start: "-", End: "+", Count: 1}).Result()
		if err == nil && p[0].Idle < ackWait {
			err = fmt.Errorf("idle for %s", p[0].Idle)
		}
		return err
	})
	other := make(chan []window.Item, 1) // one slot: the test may end before
	ctx := soon(t)
	go func() {
		items, _ := d.Fetch(ctx, 10)
		other <- items
	}()
	select {
	case items := <-other:
		if items[0].Msg.UUID == suspect[0].Msg.UUID {
			require.Fail(t, "the suspect ran beside another")
		}
		require.NoError(t, d.Ack(t.Context(), items))
		go func() {
			items, _ := d.Fetch(ctx, 10)
			other <- items
		}()
	case <-time.After(1200 * time.Millisecond):
	}
	require.NoError(t, d.Ack(t.Context(), fresh))
	items := <-other
	require.Equal(t, ids(suspect), ids(items))
	nothing(t, d)
	require.NoError(t, d.Ack(t.Context(), items))
}

func TestALivingConsumerKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(2))
	one, other := driver(t, client, stream), driver(t, client, stream)
	items := fetch(t, one, 2)
	require.NoError(t, one.Nack(t.Context(), items[1], time.Hour))
	for end := time.Now().Add(2 * ackWait); time.Now().Before(end); {
		nothing(t, other)
	}
	require.NoError(t, one.Close(t.Context()))
	got := fetch(t, other, 2)
	require.Equal(t, ids(items), ids(got), "given back at a clean end, at once and as no suspects")
}

func TestANackedEntryComesAgainAfterItsDelay(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	publish(t, client, stream, events(2))
	d := driver(t, client, stream)
	first := fetch(t, d, 1)
	begun := time.Now()
	require.NoError(t, d.Nack(t.Context(), first[0], 500*time.Millisecond))
	second := fetch(t, d, 1)
	require.NotEqual(t, ids(first), ids(second), "it holds up no other")
	require.Equal(t, ids(first), ids(fetch(t, d, 1)))
	require.GreaterOrEqual(t, time.Since(begun), 500*time.Millisecond)
}

func TestARestartOfTheServerLosesNothing(t *testing.T) {
	t.Parallel()
	server := durable(t)
	client, stream := open(t, server.URL()), streamName()
	list := events(4)
	publish(t, client, stream, list)
	d := driver(t, client, stream)
	items := fetch(t, d, 2)
	server.Stop(t)
	require.Error(t, d.Ack(t.Context(), items[:1]))
	_, err := d.Fetch(soon(t), 10)
	require.Error(t, err)
	server.Start(t)
	rest := fetch(t, d, 2)
	require.Equal(t, eventIDs(list[2:]), ids(rest))
	require.NoError(t, d.Ack(t.Context(), append(rest, items[1])))
	require.Zero(t, client.XLen(t.Context(), stream).Val(), "what was done while it was away is told as well")
}

func TestAGroupThatIsGoneIsCreatedAnew(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	d := driver(t, client, stream)
	require.NoError(t, client.Del(t.Context(), stream).Err(), "as FLUSHALL does")
	publish(t, client, stream, events(1))
	require.NoError(t, d.Ack(t.Context(), fetch(t, d, 1)))
}

func TestASecondGroupIsRefused(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	require.NoError(t, client.XGroupCreateMkStream(t.Context(), stream, "billing", "0").Err())
	_, err := redis.OpenDriver(t.Context(), redis.DriverConfig{Client: client, Stream: stream, Group: "group"})
	require.ErrorContains(t, err, "has the consumer group billing")
	require.True(t, window.IsFatal(err))
}

func TestWhatWasGivenBackComesBeforeWhatIsNew(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(1000)
	publish(t, client, stream, list[:700])
	d := driver(t, client, stream)
	fetch(t, d, 700)
	require.NoError(t, d.Close(t.Context()))
	publish(t, client, stream, list[700:])
	require.Equal(t, eventIDs(list), ids(fetch(t, driver(t, client, stream), 1000)))
}

// TestWhatAnAnswerHeldThatGotLostComesBeforeWhatIsNew lets the server give two entries to a consumer that never hears of it.
func TestWhatAnAnswerHeldThatGotLostComesBeforeWhatIsNew(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(5)
	publish(t, client, stream, list)
	d := driver(t, client, stream)
	first := fetch(t, d, 1)
	require.NoError(t, client.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "group", Consumer: redis.LoseAnswer(d), Streams: []string{stream, ">"}, Count: 2}).Err())
	require.Equal(t, eventIDs(list), append(ids(first), ids(fetch(t, d, 4))...))
}

// TestAReadThatIsCarriedOutLateComesBeforeWhatIsNew is the same where the server does so after the consumer has looked.
func TestAReadThatIsCarriedOutLateComesBeforeWhatIsNew(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.Redis(t)), streamName()
	list := events(4)
	d := driver(t, client, stream)
	consumer := redis.LoseAnswer(d)
	nothing(t, d)
	publish(t, client, stream, list)
	require.NoError(t, client.XReadGroup(t.Context(), &goredis.XReadGroupArgs{Group: "group", Consumer: consumer, Streams: []string{stream, ">"}, Count: 2}).Err())
	require.Equal(t, eventIDs(list), ids(fetch(t, d, 4)))
}

func TestAFullServerLetsGoOfWhatIsDone(t *testing.T) {
	t.Parallel()
	client, stream := open(t, testenv.NewRedis(t, "maxmemory-policy noeviction").URL()), streamName()
	publish(t, client, stream, events(3))
	d := driver(t, client, stream)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.NoError(t, d.Ack(t.Context(), fetch(t, d, 3)))
	require.Zero(t, client.XLen(t.Context(), stream).Val())
	require.NoError(t, d.Close(t.Context()))
	require.Empty(t, client.XInfoConsumers(t.Context(), stream, "group").Val())
}
