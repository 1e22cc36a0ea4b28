package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/fraiseql/observer/pipeline/window"
)

// Ack implements window.Driver: the deliveries succeeded, or what became of them is stored elsewhere. What was parked again
// meanwhile is left alone. With the delivery of a replay goes its dead letter. What the server could not be told is told
// again until Close ends.
func (q *RetryQueue) Ack(ctx context.Context, items []window.Item) error {
	return q.settle(ctx, items, "done")
}

// Nack implements window.Driver.
func (q *RetryQueue) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	return q.settle(ctx, []window.Item{item}, strconv.FormatInt(max(0, delay).Microseconds(), 10))
}

func (q *RetryQueue) settle(ctx context.Context, items []window.Item, outcome string) error {
	q.mu.Lock()
	for _, item := range items {
		c := item.Raw.(handout)
		q.claims[c] = outcome
		if q.suspect == c {
			q.suspect, q.alone = handout{}, false
		}
	}
	q.mu.Unlock()
	err := q.flush(ctx)
	q.wake() // the next of a lane may be due, or a topic not busy any more
	return err
}

// flush tells the server what it was not told yet.
func (q *RetryQueue) flush(ctx context.Context) error {
	var list []handout
	var args []any
	q.mu.Lock()
	for c, outcome := range q.claims {
		if outcome != "" {
			list, args = append(list, c), append(args, c.id, c.number, outcome)
		}
	}
	q.mu.Unlock()
	for some := range slices.Chunk(args, 3*batchSize) {
		if err := settleRetries.Run(ctx, q.cfg.Client, []string{q.cfg.Stream}, some...).Err(); err != nil {
			return fmt.Errorf("settle retries: %w", err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range list {
		delete(q.claims, c)
	}
	return nil
}

// heartbeat renews what is out at a third of the time after which it would count as a dead worker's.
func (q *RetryQueue) heartbeat() {
	ticker := time.NewTicker(q.cfg.AckWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-q.stop:
			return
		case <-ticker.C:
		}
		if err := q.renew(); err != nil {
			q.cfg.Log.Warn("retries in flight not renewed, will try again", slog.Any("error", err))
		}
	}
}

func (q *RetryQueue) renew() error {
	ctx, cancel := context.WithTimeout(context.Background(), q.cfg.AckWait)
	defer cancel()
	if err := q.flush(ctx); err != nil {
		return err
	}
	var args []any
	q.mu.Lock()
	for c := range q.claims {
		args = append(args, c.id, c.number)
	}
	q.mu.Unlock()
	for first := true; first || len(args) > 0; first = false {
		n := min(len(args), 2*batchSize)
		err := renewRetries.Run(ctx, q.cfg.Client, []string{q.cfg.Stream}, append([]any{q.cfg.AckWait.Microseconds()}, args[:n]...)...).Err()
		if err != nil {
			return fmt.Errorf("renew retries: %w", err)
		}
		args = args[n:]
	}
	return nil
}

// Close implements window.Driver. Until ctx ends it tries to tell every outcome and to give back the rest.
func (q *RetryQueue) Close(ctx context.Context) error {
	q.starting.Do(func() {}) // no heartbeat begins from now on
	q.ending.Do(func() { close(q.stop) })
	q.beating.Wait()
	q.mu.Lock()
	for c, outcome := range q.claims {
		if outcome == "" {
			q.claims[c] = "0"
		}
	}
	q.mu.Unlock()
	return persist(ctx, q.flush)
}
