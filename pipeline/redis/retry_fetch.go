package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// Fetch implements window.Driver. It asks once a second for what others have parked.
func (q *RetryQueue) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	q.starting.Do(func() { q.beating.Go(q.heartbeat) })
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("fetch retries: %w", err)
		}
		items, wait, err := q.due(ctx, min(limit, batchSize))
		if err != nil || len(items) > 0 {
			return items, err
		}
		q.sleep(ctx, wait)
	}
}

func (q *RetryQueue) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(max(time.Millisecond, min(d, time.Second)))
	defer timer.Stop()
	select {
	case <-q.poke:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// due claims what is due now, or says how long to wait. A claim outlives the caller's context: what was claimed is nobody
// else's for a time.
func (q *RetryQueue) due(ctx context.Context, limit int) ([]window.Item, time.Duration, error) {
	if err := q.flush(ctx); err != nil {
		return nil, 0, err
	}
	q.mu.Lock()
	alone, suspects := q.alone, q.suspect == handout{}
	q.mu.Unlock()
	if alone {
		return nil, time.Second, nil
	}
	args := []any{q.cfg.AckWait.Microseconds(), limit, suspects}
	if q.busy != nil {
		for _, topic := range q.busy() {
			args = append(args, topic)
		}
	}
	answer, err := claimRetries.Run(context.WithoutCancel(ctx), q.cfg.Client, []string{q.cfg.Stream}, args...).Slice()
	if err != nil {
		return nil, 0, fmt.Errorf("claim retries: %w", err)
	}
	items, err := q.handOut(ctx, answer[0].([]any))
	wait := answer[1].(int64)
	return items, time.Duration(wait) * time.Microsecond, err
}

var errStarts = errors.New("the process died each time while this delivery ran")

// handOut makes items of what was claimed, and dead letters of what cannot be delivered.
func (q *RetryQueue) handOut(ctx context.Context, rows []any) (items []window.Item, bad error) {
	for _, row := range rows {
		p := parkedOf(row.([]any))
		d, err := p.delivery()
		class := "unreadable"
		if p.starts > max(1, q.cfg.MaxDeliver-1) { // and one that was presumed
			err, class = errStarts, "poison"
		}
		if err != nil {
			bad = errors.Join(bad, q.bury(ctx, &p, err, class))
			continue
		}
		q.note(&p)
		msg := message.NewMessageWithContext(event.NewContext(context.Background(), d), d.Event.ID, d.Event.JSON())
		items = append(items, window.Item{Msg: msg, Raw: p.handout})
	}
	return items, bad
}

func (q *RetryQueue) note(p *parked) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claims[p.handout] = ""
	if p.starts > 0 {
		q.suspect, q.alone = p.handout, p.starts > 1
		q.cfg.Log.Warn("delivery was in work when its process died: it runs alone", slog.String("delivery", p.name()))
	}
}

func (q *RetryQueue) bury(ctx context.Context, p *parked, cause error, class string) error {
	d, err := p.delivery()
	if err != nil {
		d.Event = &event.Event{ID: p.event(), Type: event.Custom, Entity: p.entity, Timestamp: time.Now()}
	}
	d.Attempts = append(d.Attempts, event.Attempt{At: time.Now(), Error: cause.Error(), Class: class})
	if err := q.dead.Put(context.WithoutCancel(ctx), d); err != nil {
		return err
	}
	q.cfg.Log.Error("parked delivery became a dead letter", slog.String("delivery", p.name()), slog.Any("error", cause))
	return nil
}

// parked is one delivery as the server knows it.
type parked struct {
	handout
	starts, generation           int
	entity, body, attempts, lane string
}

func parkedOf(row []any) parked {
	return parked{
		handout: handout{row[0].(string), row[1].(int64)},
		starts:  int(row[2].(int64)), generation: int(row[3].(int64)),
		entity: row[4].(string), body: row[5].(string), attempts: row[6].(string), lane: row[7].(string),
	}
}

func (p *parked) event() string {
	id, _, _ := partsOf(p.id)
	return id
}

func (p *parked) name() string {
	id, observer, action := partsOf(p.id)
	return id + "_" + observer + "_" + action
}

// delivery returns what is known of the delivery also when there is an error.
func (p *parked) delivery() (*event.Delivery, error) {
	_, observer, action := partsOf(p.id)
	_, _, lane := partsOf(p.lane)
	d := &event.Delivery{Observer: observer, Action: action, Generation: p.generation, Lane: lane}
	if err := json.Unmarshal([]byte(p.attempts), &d.Attempts); err != nil {
		return d, fmt.Errorf("decode attempts: %w", err)
	}
	for _, a := range d.Attempts {
		if a.Generation < d.Generation {
			d.Prior++
		}
	}
	var err error
	d.Event, err = event.Decode([]byte(p.body))
	return d, err
}
