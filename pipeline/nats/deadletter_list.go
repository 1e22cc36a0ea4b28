package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/deadletter"
)

const (
	scanBatch = 500
	scanWait  = 5 * time.Second // for the first message of a batch that is known to be there
)

// List implements deadletter.Store.
func (l *DeadLetters) List(ctx context.Context, f deadletter.Filter) (items []deadletter.Letter, total int, err error) {
	list, err := l.selected(ctx, f)
	if err != nil {
		return nil, 0, wrap("list dead letters", err)
	}
	slices.SortFunc(list, func(a, b *record) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.ID, a.ID))
	})
	total = len(list)
	if f.Limit <= 0 {
		f.Limit = 100
	}
	from := min(max(f.Offset, 0), total)
	for _, r := range list[from:min(from+f.Limit, total)] {
		item, err := l.letter(ctx, r)
		if err != nil {
			return nil, 0, wrap("list dead letters", err)
		}
		item.History = nil
		items = append(items, *item)
	}
	return items, total, nil
}

// letter adds to a dead letter what a parked replay has added.
func (l *DeadLetters) letter(ctx context.Context, r *record) (*deadletter.Letter, error) {
	d := &deadletter.Letter{
		ID: r.ID, EventID: r.EventID, Observer: r.Observer, Action: r.Action, Entity: r.Entity, Attempts: r.tries,
		Error: r.Error, ErrorClass: r.Class, FirstFailedAt: r.First, LastFailedAt: r.Last, Generation: r.Generation,
		Retrying: r.retrying(), Listener: l.cfg.Consumer, Event: r.Event, History: r.Attempts, LastError: r.Error, LastClass: r.Class,
	}
	if !d.Retrying {
		return d, nil
	}
	e, err := entryOf(ctx, l.retries, l.subjects, r.key())
	if err != nil || e == nil {
		return d, err
	}
	d.NextAttempt = e.Due
	if n := len(e.Attempts); n > 0 {
		d.Attempts, d.History, d.LastError, d.LastClass = n, e.Attempts, e.Attempts[n-1].Error, e.Attempts[n-1].Class
	}
	return d, nil
}

// Count returns how many dead letters the filter selects, whatever its limit and offset.
func (l *DeadLetters) Count(ctx context.Context, f deadletter.Filter) (n int, err error) {
	err = l.each(ctx, f, func(*record) { n++ })
	return n, wrap("count dead letters", err)
}

// Waiting returns how many dead letters there are, and how long ago the oldest of them failed first.
func (l *DeadLetters) Waiting(ctx context.Context) (n int, oldest time.Duration, err error) {
	err = l.each(ctx, deadletter.Filter{}, func(r *record) {
		n++
		oldest = max(oldest, time.Since(r.First))
	})
	return n, oldest, wrap("count dead letters", err)
}

// Get implements deadletter.Store.
func (l *DeadLetters) Get(ctx context.Context, id int64) (*deadletter.Letter, error) {
	r, err := l.find(ctx, id)
	if err != nil {
		return nil, wrap("read dead letter", err)
	}
	d, err := l.letter(ctx, r)
	return d, wrap("read dead letter", err)
}

// find returns a dead letter by its ID, at once when it was not written again.
func (l *DeadLetters) find(ctx context.Context, id int64) (found *record, err error) {
	if id > 0 {
		msg, err := l.stream.GetMsg(ctx, uint64(id))
		if err == nil {
			found, err = decodeRecord(msg.Data, msg.Sequence)
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, err
		}
		if found != nil && found.ID == id && msg.Subject == l.subject(found.key()) {
			return found, nil
		}
		found = nil
	}
	var key string
	if err := l.each(ctx, deadletter.Filter{}, func(r *record) {
		if r.ID == id {
			key = r.key()
		}
	}); err != nil {
		return nil, err
	}
	if key != "" {
		if found, err = l.read(ctx, key); err != nil {
			return nil, err
		}
	}
	if found == nil || found.ID != id {
		return nil, fmt.Errorf("dead letter %d: %w; see: observer dlq list", id, deadletter.ErrNotFound)
	}
	return found, nil
}

// selected returns the selected dead letters without their events and attempts.
func (l *DeadLetters) selected(ctx context.Context, f deadletter.Filter) (list []*record, err error) {
	err = l.each(ctx, f, func(r *record) {
		r.Event, r.Attempts = nil, nil
		list = append(list, r)
	})
	return list, err
}

// each calls do for each of the selected dead letters that were there when it began, in no order.
func (l *DeadLetters) each(ctx context.Context, f deadletter.Filter, do func(*record)) error {
	return scan(ctx, l.stream, l.subject("*"), func(body []byte, sequence uint64) error {
		r, err := decodeRecord(body, sequence)
		if err == nil && r.selectedBy(f) {
			do(r)
		}
		return err
	})
}

func (r *record) selectedBy(f deadletter.Filter) bool {
	return (f.Observer == "" || r.Observer == f.Observer) && (f.Class == "" || r.Class == f.Class) &&
		(f.After.IsZero() || r.Last.After(f.After)) && (f.Before.IsZero() || r.Last.Before(f.Before))
}

// scan reads what a stream has of a subject.
func scan(ctx context.Context, s jetstream.Stream, filter string, do func(body []byte, sequence uint64) error) (err error) {
	consumer, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{FilterSubject: filter, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute})
	if err != nil {
		return err
	}
	defer func() {
		deleteErr := s.DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name)
		if !errors.Is(deleteErr, jetstream.ErrConsumerNotFound) {
			err = errors.Join(err, deleteErr)
		}
	}()
	for left := consumer.CachedInfo().NumPending; left > 0; {
		if left, err = scanSome(consumer, left, do); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func scanSome(consumer jetstream.Consumer, left uint64, do func(body []byte, sequence uint64) error) (uint64, error) {
	batch, err := consumer.Fetch(int(min(left, scanBatch)), jetstream.FetchMaxWait(scanWait))
	if err != nil {
		return 0, err
	}
	var got bool
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err == nil {
			err = do(msg.Data(), meta.Sequence.Stream)
		}
		if err != nil {
			return 0, err
		}
		got, left = true, min(left-1, meta.NumPending)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, natsgo.ErrTimeout) {
		return 0, err
	}
	if !got {
		return 0, errors.New("the server sends no more")
	}
	return left, nil
}
