package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// Remove implements deadletter.Store. A replay that a worker takes at this very moment may go on, and bring the dead letter
// back when it fails.
func (l *DeadLetters) Remove(ctx context.Context, id int64) (*deadletter.Letter, error) {
	r, err := l.find(ctx, id)
	if err != nil {
		return nil, wrap("remove dead letter", err)
	}
	removed, err := l.letter(ctx, r)
	if err == nil {
		err = l.stopReplay(ctx, r)
	}
	if err == nil {
		err = deleteMessage(ctx, l.stream, r.sequence)
	}
	if err != nil {
		return nil, wrap("remove dead letter", err)
	}
	return removed, nil
}

// stopReplay takes away the entry of a delivery, unless a worker has it in hand: that would store what became of it.
func (l *DeadLetters) stopReplay(ctx context.Context, r *record) error {
	if !r.retrying() {
		return nil
	}
	if err := l.stopDue(ctx, r); err != nil {
		return err
	}
	if err := l.retries.Purge(ctx, jetstream.WithPurgeSubject(l.subjects.park(r.key()))); err != nil {
		return err
	}
	return l.stopDue(ctx, r) // it may have become due between the two
}

func (l *DeadLetters) stopDue(ctx context.Context, r *record) error {
	due, err := lastMessage(ctx, l.retries, l.subjects.due(r.key()))
	if err != nil || due == nil {
		return err
	}
	info, err := l.consumer(ctx)
	if err != nil {
		return err
	}
	if info != nil && due.Sequence <= info.Delivered.Stream { // and not acked, or it would be gone
		return fmt.Errorf("dead letter %d: %w", r.ID, deadletter.ErrInWork)
	}
	return deleteMessage(ctx, l.retries, due.Sequence)
}

// consumer describes the consumer of the retry queue, nil when there is none yet.
func (l *DeadLetters) consumer(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	consumer, err := l.retries.Consumer(ctx, l.cfg.Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}

// A worker that runs is between two fetches for moments only, unless it has its hands full.
const (
	idleLooks = 5
	idlePause = 100 * time.Millisecond
)

// Idle implements deadletter.Store: there is one consumer. A worker shows by what it has in hand, or that it asks for more.
func (l *DeadLetters) Idle(ctx context.Context) ([]string, error) {
	retrying := false
	if err := l.each(ctx, deadletter.Filter{}, func(r *record) { retrying = retrying || r.retrying() }); err != nil {
		return nil, wrap("look for workers", err)
	}
	if !retrying {
		return nil, nil
	}
	for range idleLooks {
		info, err := l.consumer(ctx)
		if err != nil {
			return nil, wrap("look for workers", err)
		}
		if info != nil && (info.NumWaiting > 0 || info.NumAckPending > 0) {
			return nil, nil
		}
		if err := sleep(ctx, idlePause); err != nil {
			return nil, err
		}
	}
	return []string{l.cfg.Consumer}, nil
}
