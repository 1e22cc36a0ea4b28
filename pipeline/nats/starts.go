package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/window"
)

// An event that ends the process each time must not end it for ever. The first start is not noted: that the server delivers
// a message again says that there may have been one. From then on each start is noted on the server before the message is
// handed out, and erased with its outcome. One whose next start could be the last that it may have runs alone, so that a
// crash meanwhile convicts it and no other: it is not started again but handed out as poison.

type starts struct {
	bucket   jetstream.KeyValue
	consumer string
	most     int
}

func newStarts(bucket jetstream.KeyValue, consumer string, maxDeliver int) starts {
	if maxDeliver <= 0 {
		maxDeliver = 3
	}
	return starts{bucket, consumer, max(maxDeliver, 2)} // the last one must have been alone
}

func (s starts) key(e *entry) string { return token(s.consumer) + "." + token(e.id) }

// unjudged reports whether e may have been started before and it is not known how often.
func (e *entry) unjudged() bool { return e.delivered > 1 && !e.judged }

// counts reports whether starts of e are noted.
func (s starts) counts(e *entry) bool { return e.prior > 0 && e.prior < s.most }

// alone reports whether the next start of e could be the last one that it may have.
func (s starts) alone(e *entry) bool { return e.prior >= s.most-1 && e.prior < s.most }

// prior reads how often e was started without an outcome.
func (s starts) prior(ctx context.Context, e *entry) (n int, marked bool, err error) {
	value, err := s.bucket.Get(ctx, s.key(e))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 1, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the starts of %s: %w", e.id, err)
	}
	n, err = strconv.Atoi(string(value.Value()))
	if err != nil {
		return 0, false, fmt.Errorf("read the starts of %s: %w", e.id, err)
	}
	return n, true, nil
}

// note stores that e is started once more.
func (s starts) note(ctx context.Context, e *entry) error {
	_, err := s.bucket.PutString(ctx, s.key(e), strconv.Itoa(e.prior+1))
	if err != nil {
		return fmt.Errorf("note a start of %s: %w", e.id, err)
	}
	e.marked = true
	return nil
}

// clear erases what is noted of e. What cannot be erased expires: the message itself is settled.
func (s starts) clear(ctx context.Context, e *entry) {
	if e.marked {
		_ = s.bucket.Purge(ctx, s.key(e))
	}
}

// judge looks up the starts of what is queued and was delivered before.
func (d *Driver) judge(ctx context.Context) error {
	for _, e := range d.suspects() {
		prior, marked, err := d.starts.prior(ctx, e)
		if err != nil {
			return err
		}
		d.mu.Lock()
		e.prior, e.marked, e.judged = prior, marked, true
		d.mu.Unlock()
		if prior >= d.starts.most {
			e.item.Msg.Metadata.Set(window.MetadataPoison, fmt.Sprintf(
				"started %d times without an outcome: the process ended while it ran, the last time by itself", prior))
			e.item.Msg.Metadata.Set(window.MetadataPoisonClass, "poison")
		}
	}
	return nil
}

func (d *Driver) suspects() []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*entry
	for _, e := range d.queue {
		if e.unjudged() {
			list = append(list, e)
		}
	}
	return list
}

// mark notes the start of each suspect that is about to be handed out, where nobody tells when it begins.
func (d *Driver) mark(ctx context.Context, list []*entry) error {
	for _, e := range list {
		if !d.starts.counts(e) || d.cfg.Tracked && !d.starts.alone(e) {
			continue
		}
		if d.starts.alone(e) {
			d.cfg.Log.Warn("an event that may have ended the process runs alone", "event_id", e.id, "starts", e.prior+1)
		}
		if err := d.starts.note(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// tracker is the window.Tracker of a suspect: what was only read ahead when a process ended has not been started.
type tracker struct {
	d   *Driver
	e   *entry
	ctx context.Context //nolint:containedctx // of the Fetch that handed it out; Start takes none
}

var _ window.Tracker = tracker{}

// Start implements window.Tracker. A start that cannot be noted is one that does not count.
func (t tracker) Start() {
	ctx, cancel := context.WithTimeout(t.ctx, flushTimeout)
	defer cancel()
	if err := t.d.starts.note(ctx, t.e); err != nil {
		t.d.cfg.Log.Warn("a start does not count", "event_id", t.e.id, "error", err)
	}
}

// Done implements window.Tracker: the server keeps no parts, so a crash repeats the others too.
func (tracker) Done(string) {}

// WasDone implements window.Tracker.
func (tracker) WasDone(string) bool { return false }
