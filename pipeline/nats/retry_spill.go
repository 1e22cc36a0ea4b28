package nats

import (
	"context"
	"slices"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// Spill parks deliveries that have not failed, in their order. One that is parked already stays as it is. What is larger
// than the server takes becomes a dead letter.
func (q *RetryQueue) Spill(ctx context.Context, list []dispatch.Spilled) error {
	lanes := map[string]struct{}{}
	futures := make([]jetstream.PubAckFuture, 0, len(list))
	var refused []*event.Delivery
	for _, s := range list {
		e := newEntry(s.Delivery, s.NotBefore)
		future, err := q.spill(e)
		switch {
		case unstorable(err):
			refused = append(refused, s.Delivery)
			continue
		case err != nil:
			return wrap("park deliveries", err)
		case e.Lane != "":
			lanes[e.laneKey()] = struct{}{}
		}
		futures = append(futures, future)
	}
	for _, future := range futures {
		if err := stored(ctx, future); err != nil && !exists(err) {
			return wrap("park deliveries", err)
		}
	}
	for _, d := range refused {
		if err := q.dead.Put(ctx, tooLarge(d)); err != nil {
			return err
		}
	}
	return wrap("wake parked lanes", q.wakeLanes(ctx, lanes))
}

func tooLarge(d *event.Delivery) *event.Delivery {
	dead := *d
	dead.Attempts = append(slices.Clip(dead.Attempts),
		event.Attempt{At: time.Now(), Error: "it cannot be parked: " + natsgo.ErrMaxPayload.Error(), Class: "unstorable"})
	return &dead
}

// spill publishes e, which is parked if there is nothing in its place.
func (q *RetryQueue) spill(e *parkedEntry) (jetstream.PubAckFuture, error) {
	if e.Lane != "" {
		msg, err := q.place(e)
		if err != nil {
			return nil, err
		}
		return q.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequencePerSubject(0))
	}
	msg, err := e.message()
	if err != nil {
		return nil, err
	}
	q.address(msg, e)
	return q.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequencePerSubject(0))
}

// place is the message that keeps the place of e in its lane.
func (q *RetryQueue) place(e *parkedEntry) (*natsgo.Msg, error) {
	msg, err := e.message()
	if err != nil {
		return nil, err
	}
	msg.Subject = q.subjects.lane(e.laneKey(), e.key())
	return msg, nil
}

func stored(ctx context.Context, future jetstream.PubAckFuture) error {
	select {
	case <-future.Ok():
		return nil
	case err := <-future.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Avoid sets what lists the topics for which nothing is to be handed out for now, and must be called before the first Fetch.
func (q *RetryQueue) Avoid(busy func() []string) { q.busy = busy }

func (q *RetryQueue) avoided() map[string]bool {
	topics := map[string]bool{}
	if q.busy != nil {
		for _, topic := range q.busy() {
			topics[topic] = true
		}
	}
	return topics
}

// Waiting returns how many deliveries are parked or handed out for another attempt, and since when the one whose entry
// was written the longest ago has been parked.
func (q *RetryQueue) Waiting(ctx context.Context) (n int64, oldest time.Duration, err error) {
	entries, err := waitingKeys(ctx, q.stream, q.subjects)
	if err != nil {
		return 0, 0, wrap("count parked deliveries", err)
	}
	places, err := keysOf(ctx, q.stream, q.subjects.lane("*", "*"))
	if err != nil {
		return 0, 0, wrap("count parked deliveries", err)
	}
	for _, subject := range places {
		entries[lastToken(subject)] = struct{}{}
	}
	for _, filter := range []string{q.subjects.park("*"), q.subjects.due("*"), q.subjects.lane("*", "*")} {
		msg, err := firstMessage(ctx, q.stream, filter)
		if err != nil {
			return 0, 0, wrap("count parked deliveries", err)
		}
		if msg == nil {
			continue
		}
		if e, err := decodeEntry(msg.Data); err == nil {
			oldest = max(oldest, time.Since(e.Parked))
		}
	}
	return int64(len(entries)), oldest, nil
}
