package nats

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/pipeline/dispatch"
)

// A lane of parked deliveries leaves one by one. Each has a message that keeps its place, the order of the stream, and only
// the first has an entry that becomes due. Whoever changes the places of a lane wakes its first afterwards; who wakes it
// needlessly does no harm, since what is due and is not the first is not handed out. What a crash left asleep is
// found now and then.

// healEvery is how often the queue looks for lanes that sleep.
const healEvery = 10 * time.Second

// wakers bounds how many lanes are woken at once: each takes a few round trips.
const wakers = 32

// join gives e a place at the end of its lane, unless it has one, and reports whether it is the first. Of one that is not
// and has a place already nothing is replaced: it would have to run before its turn for that.
func (q *RetryQueue) join(ctx context.Context, e *parkedEntry) (first bool, err error) {
	msg, err := q.place(e)
	if err != nil {
		return false, err
	}
	if _, err = q.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0)); err != nil && !exists(err) {
		return false, err
	}
	head, err := q.head(ctx, e.laneKey())
	return head == e.key(), err
}

// head returns the key of the first delivery of a lane, "" when there is none.
func (q *RetryQueue) head(ctx context.Context, lane string) (string, error) {
	msg, err := firstMessage(ctx, q.stream, q.subjects.lane(lane, "*"))
	if err != nil || msg == nil {
		return "", err
	}
	return lastToken(msg.Subject), nil
}

// leaveLane gives up the place of e and wakes the next.
func (q *RetryQueue) leaveLane(ctx context.Context, e *parkedEntry) error {
	if err := q.stream.Purge(ctx, jetstream.WithPurgeSubject(q.subjects.lane(e.laneKey(), e.key()))); err != nil {
		return err
	}
	return q.wakeLane(ctx, e.laneKey())
}

// wakeLane gives the first of a lane an entry, if it has none.
func (q *RetryQueue) wakeLane(ctx context.Context, lane string) error {
	for {
		first, err := firstMessage(ctx, q.stream, q.subjects.lane(lane, "*"))
		if err != nil || first == nil {
			return err
		}
		has, err := entryOf(ctx, q.stream, q.subjects, lastToken(first.Subject))
		if err != nil {
			return err
		}
		if has == nil {
			e, err := decodeEntry(first.Data)
			if err != nil {
				return err
			}
			return q.wake(ctx, e)
		}
		if has.laneKey() == lane {
			return nil
		}
		if err := deleteMessage(ctx, q.stream, first.Sequence); err != nil { // it gave its lane up
			return err
		}
	}
}

// wake makes e due, unless another worker has done so since it was looked for: a second entry would be handed out beside the
// first.
func (q *RetryQueue) wake(ctx context.Context, e *parkedEntry) error {
	err := q.store(ctx, e, jetstream.WithExpectLastSequencePerSubject(0))
	if exists(err) {
		return nil
	}
	return err
}

// entryOf returns what waits for its next attempt or has it now, nil when nothing does. It looks twice at what becomes due.
func entryOf(ctx context.Context, s jetstream.Stream, names subjects, key string) (*parkedEntry, error) {
	for _, subject := range []string{names.park(key), names.due(key), names.park(key)} {
		msg, err := lastMessage(ctx, s, subject)
		if err != nil {
			return nil, err
		}
		if msg != nil {
			return decodeEntry(msg.Data)
		}
	}
	return nil, nil
}

// wakeLanes wakes many.
func (q *RetryQueue) wakeLanes(ctx context.Context, lanes map[string]struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(wakers)
	for lane := range lanes {
		g.Go(func() error { return q.wakeLane(ctx, lane) })
	}
	return g.Wait()
}

// heal wakes the lanes none of whose deliveries has an entry.
func (q *RetryQueue) heal(ctx context.Context) error {
	if time.Since(q.healed) < healEvery {
		return nil
	}
	places, err := keysOf(ctx, q.stream, q.subjects.lane("*", "*"))
	if err != nil {
		return wrap("look after parked lanes", err)
	}
	asleep := map[string]struct{}{}
	if len(places) > 0 {
		entries, err := waitingKeys(ctx, q.stream, q.subjects)
		if err != nil {
			return wrap("look after parked lanes", err)
		}
		awake := map[string]bool{}
		for _, subject := range places {
			_, has := entries[lastToken(subject)]
			awake[laneOf(subject)] = awake[laneOf(subject)] || has
		}
		for lane, is := range awake {
			if !is {
				asleep[lane] = struct{}{}
			}
		}
	}
	if err := q.wakeLanes(ctx, asleep); err != nil {
		return wrap("look after parked lanes", err)
	}
	q.healed = time.Now()
	return nil
}

// keysOf lists the subjects that match. They are held in memory: some 100 bytes each.
func keysOf(ctx context.Context, s jetstream.Stream, filter string) (list []string, err error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		list = append(list, subject)
	}
	return list, nil
}

// waitingKeys are the deliveries that have an entry.
func waitingKeys(ctx context.Context, s jetstream.Stream, names subjects) (map[string]struct{}, error) {
	keys := map[string]struct{}{}
	for _, filter := range []string{names.park("*"), names.due("*"), names.park("*")} { // as entryOf does
		list, err := keysOf(ctx, s, filter)
		if err != nil {
			return nil, err
		}
		for _, subject := range list {
			keys[lastToken(subject)] = struct{}{}
		}
	}
	return keys, nil
}

// Lanes lists the lanes that are parked.
func (q *RetryQueue) Lanes(ctx context.Context) ([]dispatch.Lane, error) {
	places, err := keysOf(ctx, q.stream, q.subjects.lane("*", "*"))
	if err != nil {
		return nil, wrap("read parked lanes", err)
	}
	counts := map[string]int{}
	for _, subject := range places {
		counts[laneOf(subject)]++
	}
	var mu sync.Mutex
	lanes := make([]dispatch.Lane, 0, len(counts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(wakers)
	for lane, n := range counts {
		g.Go(func() error {
			first, err := firstMessage(ctx, q.stream, q.subjects.lane(lane, "*"))
			if err != nil || first == nil {
				return err
			}
			e, err := decodeEntry(first.Data)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			lanes = append(lanes, dispatch.Lane{Observer: e.Observer, Action: e.Action, Name: e.Lane, Parked: n})
			return nil
		})
	}
	return lanes, wrap("read parked lanes", g.Wait())
}

// exists reports whether a message was refused because there is one of its subject, or one that was not expected.
func exists(err error) bool {
	return errors.Is(err, &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence})
}
