package nats

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

// retryGrace is for how long a replay that was asked for and is parked nowhere is taken for one that is about to be.
// After that its caller has died in between, and another may ask.
const retryGrace = 30 * time.Second

// tellEvery is how many dead letters RetryAll and RemoveAll change between two calls of told.
const tellEvery = 1000

// Retry implements deadletter.Store.
func (l *DeadLetters) Retry(ctx context.Context, id int64) (parked bool, err error) {
	r, err := l.find(ctx, id)
	if err != nil {
		return false, wrap("retry dead letter", err)
	}
	if err := deadletter.Replayable(id, r.Event != nil, r.Error, r.Class); err != nil {
		return false, wrap("retry dead letter", err)
	}
	parked, err = l.retry(ctx, r)
	return parked, wrap("retry dead letter", err)
}

// retry parks a replay of r as it was read.
func (l *DeadLetters) retry(ctx context.Context, r *record) (parked bool, err error) {
	if busy, err := l.isRetrying(ctx, r); err != nil || busy {
		return false, err
	}
	next := *r
	next.Generation++
	next.Retried = time.Now()
	if err := l.replace(ctx, r.key(), r, &next); err != nil {
		if exists(err) { // another was first
			err = nil
		}
		return false, err
	}
	e := &parkedEntry{
		EventID: r.EventID, Observer: r.Observer, Action: r.Action, Generation: next.Generation, Due: next.Retried, Parked: next.Retried,
		Attempts: r.Attempts, Event: r.Event,
	}
	q := &RetryQueue{js: l.js, subjects: l.subjects}
	return true, q.store(context.WithoutCancel(ctx), e)
}

// isRetrying is about the delivery, not what r says: it may also be parked because the event came again.
func (l *DeadLetters) isRetrying(ctx context.Context, r *record) (bool, error) {
	if r.justRetried() {
		return true, nil
	}
	e, err := entryOf(ctx, l.retries, l.subjects, r.key())
	return e != nil, err
}

func (r *record) justRetried() bool { return r.retrying() && time.Since(r.Retried) < retryGrace }

// RetryAll implements deadletter.Store. Limit bounds how many.
func (l *DeadLetters) RetryAll(ctx context.Context, f deadletter.Filter, told func(int)) (parked int, err error) {
	parked, err = l.all(ctx, f, (*record).replayable, told, l.retry)
	return parked, wrap("retry dead letters", err)
}

// RemoveAll implements deadletter.Store. Limit bounds how many.
func (l *DeadLetters) RemoveAll(ctx context.Context, f deadletter.Filter, told func(int)) (removed int, err error) {
	removed, err = l.all(ctx, f, (*record).any, told, func(ctx context.Context, r *record) (bool, error) {
		if busy, err := l.isRetrying(ctx, r); err != nil || busy {
			return false, err
		}
		return true, deleteMessage(ctx, l.stream, r.sequence)
	})
	return removed, wrap("remove dead letters", err)
}

func (r *record) replayable() bool { return r.hasEvent && r.Class != deadletter.ClassUnreadable }
func (r *record) any() bool        { return true }

// all changes the selected dead letters that are at rest, oldest first.
func (l *DeadLetters) all(ctx context.Context, f deadletter.Filter, fits func(*record) bool, told func(int), change func(context.Context, *record) (bool, error)) (done int, err error) {
	list, err := l.atRest(ctx, f, fits)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, r := range list {
		msg, err := l.stream.GetMsg(ctx, r.sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // it was changed meanwhile
			continue
		}
		if err == nil {
			r, err = decodeRecord(msg.Data, msg.Sequence)
		}
		var changed bool
		if err == nil {
			changed, err = change(ctx, r)
		}
		if err != nil {
			return done, err
		}
		if changed {
			done++
		}
		if told != nil && done >= last+tellEvery {
			last = done
			told(done)
		}
	}
	if told != nil && done > last {
		told(done)
	}
	return done, nil
}

// atRest returns the selected dead letters that fit and are not being delivered again, in the order in which they failed
// first; at most Limit, unless that is 0.
func (l *DeadLetters) atRest(ctx context.Context, f deadletter.Filter, fits func(*record) bool) ([]*record, error) {
	list, waiting, err := l.withWaiting(ctx, f)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r *record) bool { return !fits(r) || r.isWaiting(waiting) })
	slices.SortFunc(list, func(a, b *record) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.ID, b.ID))
	})
	if f.Limit > 0 && len(list) > f.Limit {
		list = list[:f.Limit]
	}
	return list, nil
}

// withWaiting returns the selected dead letters, and the keys of all deliveries that are parked or in work.
func (l *DeadLetters) withWaiting(ctx context.Context, f deadletter.Filter) ([]*record, map[string]struct{}, error) {
	list, err := l.selected(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	waiting, err := waitingKeys(ctx, l.retries, l.subjects)
	return list, waiting, err
}

func (r *record) isWaiting(keys map[string]struct{}) bool {
	_, waits := keys[r.key()]
	return waits || r.justRetried()
}
