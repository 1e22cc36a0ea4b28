package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	// fetchWait is how long one look waits for something to be due: a context that ends is noticed after that.
	fetchWait = 500 * time.Millisecond
	// turnWait is how soon it is seen that a suspect has its outcome.
	turnWait = 50 * time.Millisecond
	// What is for a busy endpoint is put off, each time for twice as long.
	firstPutOff = 250 * time.Millisecond
	lastPutOff  = 8 * time.Second
)

// Fetch implements window.Driver.
func (q *RetryQueue) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("fetch retries: %w", err)
		}
		items, err := q.look(ctx, limit)
		if err != nil || len(items) > 0 {
			return items, err
		}
	}
}

// look hands out what is due, and waits for it a while.
func (q *RetryQueue) look(ctx context.Context, limit int) ([]window.Item, error) {
	if err := errors.Join(q.flush(ctx), q.heal(ctx)); err != nil {
		return nil, err
	}
	busy := q.avoided()
	items, err := q.nextSuspect(ctx, busy)
	if err != nil || len(items) >= limit {
		return items, err
	}
	waiting, alone := q.suspectState()
	if alone {
		if len(items) == 0 {
			err = sleep(ctx, turnWait)
		}
		return items, wrap("fetch retries", err)
	}
	wait := fetchWait
	switch {
	case len(items) > 0:
		wait = 0
	case waiting:
		wait = turnWait
	}
	msgs, err := q.pull(limit-len(items), wait)
	for _, msg := range msgs {
		item, judgeErr := q.judge(context.WithoutCancel(ctx), msg, busy)
		err = errors.Join(err, judgeErr)
		if item != nil {
			items = append(items, *item)
		}
	}
	return items, err
}

// pull returns what is due now, or else the first that becomes so within the time.
func (q *RetryQueue) pull(limit int, wait time.Duration) ([]jetstream.Msg, error) {
	msgs, err := collect(q.consumer.FetchNoWait(limit))
	if err != nil || len(msgs) > 0 || wait == 0 {
		return msgs, err
	}
	return collect(q.consumer.Fetch(1, jetstream.FetchMaxWait(wait)))
}

func collect(batch jetstream.MessageBatch, err error) (msgs []jetstream.Msg, _ error) {
	if err != nil {
		return nil, wrap("fetch retries", err)
	}
	for msg := range batch.Messages() {
		msgs = append(msgs, msg)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, natsgo.ErrTimeout) && !errors.Is(err, jetstream.ErrNoMessages) {
		return msgs, wrap("fetch retries", err)
	}
	return msgs, nil
}

// judge decides what is to become of a message: an item, nothing, or a suspect that waits for its turn.
func (q *RetryQueue) judge(ctx context.Context, msg jetstream.Msg, busy map[string]bool) (*window.Item, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, wrap("read retry", err)
	}
	h := &hand{key: lastToken(msg.Subject()), msg: msg, sequence: meta.Sequence.Stream}
	if q.adopt(h) {
		return nil, nil
	}
	d, err := h.decode(msg.Data())
	if err != nil {
		return nil, q.bury(ctx, h, err, "unreadable")
	}
	current, err := q.current(ctx, h, meta.NumDelivered > 1)
	if err != nil || !current {
		return nil, err
	}
	if meta.NumDelivered > 1 {
		q.mu.Lock()
		q.suspects = append(q.suspects, h)
		q.mu.Unlock()
		return nil, nil
	}
	if busy[dispatch.Topic(d.Observer, d.Action)] {
		return nil, q.putOff(ctx, h)
	}
	return q.handOut(h, d), nil
}

func (h *hand) decode(body []byte) (d *event.Delivery, err error) {
	if h.parkedEntry, err = decodeEntry(body); err != nil {
		return nil, err
	}
	if h.parkedEntry.key() != h.key {
		return nil, errors.New("decode delivery: it is not the one that its subject names")
	}
	return h.parkedEntry.delivery()
}

// adopt takes a message of a delivery that is in hand already for that. It reports whether there was one.
func (q *RetryQueue) adopt(h *hand) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if was := q.out[h.key]; was != nil && (!was.moved || was.sequence == h.sequence) {
		was.msg, was.sequence = h.msg, h.sequence
		return true
	}
	for _, was := range q.suspects {
		if was.key == h.key {
			was.msg, was.sequence = h.msg, h.sequence
			return true
		}
	}
	return false
}

// current reports whether what is due has its turn. Else it was stored in another place by a worker that died before it
// could take this one away, and that worker's next steps are done as well.
func (q *RetryQueue) current(ctx context.Context, h *hand, again bool) (bool, error) {
	if again {
		parked, err := lastMessage(ctx, q.stream, q.subjects.park(h.key))
		if err != nil {
			return false, err
		}
		if parked != nil && parked.Sequence > h.sequence {
			next, err := decodeEntry(parked.Data)
			if err == nil && h.parkedEntry.Lane != "" && next.Lane != h.parkedEntry.Lane {
				err = q.leaveLane(ctx, h.parkedEntry)
			}
			if err != nil {
				return false, err
			}
			return false, h.msg.Ack()
		}
	}
	if h.parkedEntry.Lane == "" {
		return true, nil
	}
	head, err := q.head(ctx, h.parkedEntry.laneKey())
	if err != nil || head == h.key {
		return err == nil, err
	}
	if err := h.msg.Ack(); err != nil {
		return false, err
	}
	return false, q.wakeLane(ctx, h.parkedEntry.laneKey())
}

func (q *RetryQueue) putOff(ctx context.Context, h *hand) error {
	e := *h.parkedEntry
	e.Due = time.Now().Add(min(firstPutOff<<min(e.PutOff, 8), lastPutOff))
	e.PutOff++
	if err := q.store(ctx, &e); err != nil {
		return wrap("put retry off", err)
	}
	return h.msg.Ack()
}

func (q *RetryQueue) handOut(h *hand, d *event.Delivery) *window.Item {
	h.parkedEntry.PutOff = 0
	q.mu.Lock()
	q.out[h.key] = h
	q.mu.Unlock()
	msg := message.NewMessage(h.parkedEntry.EventID, []byte(h.parkedEntry.Event))
	msg.SetContext(event.NewContext(event.WithEvent(msg.Context(), d.Event), d))
	return &window.Item{Msg: msg, Raw: h}
}

// bury makes a dead letter of what cannot be delivered. Its entry need not be readable: somebody may have changed it.
func (q *RetryQueue) bury(ctx context.Context, h *hand, cause error, class string) error {
	e := h.parkedEntry
	if e == nil || e.key() != h.key {
		e = &parkedEntry{EventID: h.key}
	}
	d, err := e.delivery()
	if err != nil {
		d = &event.Delivery{Event: &event.Event{ID: e.EventID, Type: event.Custom, Timestamp: time.Now()}, Observer: e.Observer, Action: e.Action, Generation: e.Generation}
	}
	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now(), Error: cause.Error(), Class: class})
	if err := q.dead.Put(ctx, d); err != nil {
		return err
	}
	if e.Lane != "" {
		if err := q.leaveLane(ctx, e); err != nil {
			return err
		}
	}
	q.cfg.Log.Error("parked delivery became a dead letter", slog.String("event_id", e.EventID), slog.String("observer", e.Observer),
		slog.String("action", e.Action), slog.Any("error", cause))
	return h.msg.Ack()
}
