package nats

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The server is asked whether what is missing has come after the first pause, and after twice as long each time.
const (
	firstMend = 50 * time.Millisecond
	lastMend  = 400 * time.Millisecond
)

// order keeps what a consumer with one reader delivers in the order of the stream. The server delivers what comes again
// when its time is over, behind what is newer. So while an event is out that is in nobody's hands (it went to a reader that
// died, to a connection that broke, or was given back), nothing is handed out; then all is sorted. Deliveries are numbered
// without gaps, so that a missing one shows in the next. A Driver's mu guards it.
type order struct {
	next   uint64            // number of the next delivery
	broken uint64            // of the delivery before which one is missing
	held   map[uint64]uint64 // number of the delivery, by the event's sequence in the stream; 0: of a consumer that is no more
	made   time.Time         // when the consumer was, which the numbers are of
	gap    bool              // something may be out that is not held
	since  time.Time         // of the gap
	lost   int               // what was missing when the server was asked last
}

// newOrder begins with a gap: what the reader before left.
func newOrder() *order {
	return &order{held: map[uint64]uint64{}, gap: true, since: time.Now()}
}

// admit notes a delivery, the first one of what is held: its time may have been over while it was in our hands.
func (o *order) admit(place jetstream.SequencePair) {
	if place.Consumer != o.next {
		o.broken = place.Consumer
		o.open()
	}
	o.next = place.Consumer + 1
	if _, again := o.held[place.Stream]; !again {
		o.held[place.Stream] = place.Consumer
	}
}

func (o *order) open() {
	if !o.gap {
		o.gap, o.since = true, time.Now()
	}
}

// numberedBy notes when the consumer was made. One that somebody deleted and that was made again counts anew, and delivers
// again what we hold.
func (o *order) numberedBy(made time.Time) {
	if !o.made.IsZero() && !o.made.Equal(made) {
		o.broken = 0
		for sequence := range o.held {
			o.held[sequence] = 0
		}
	}
	o.made = made
}

// mended compares what is held with what the server calls delivered and not acked, and reports whether it is the same. An
// ack by a reader before may have come late; after patience all that can come has.
func (o *order) mended(delivered uint64, pending int, patience time.Duration) bool {
	held := 0
	for _, number := range o.held {
		if number <= delivered {
			held++
		}
	}
	o.lost = max(0, pending-held)
	if o.broken > delivered || pending > held || pending < held && time.Since(o.since) < patience {
		return false
	}
	o.gap, o.next = false, max(o.next, delivered+1)
	return true
}

// admit tells the order of a delivery. It is called under the lock, as the next two are.
func (d *Driver) admit(number jetstream.SequencePair) {
	if d.order == nil {
		return
	}
	if d.order.admit(number); d.order.gap {
		d.gapped.set()
	}
}

// release notes that the server has an event no more.
func (d *Driver) release(at place) {
	if d.order != nil {
		delete(d.order.held, at.sequence)
	}
}

// awaitAgain notes that an event is in nobody's hands: what is newer waits for it.
func (d *Driver) awaitAgain(at place) {
	if d.order != nil {
		d.release(at)
		d.order.open()
		d.gapped.set()
	}
}

// mendAll closes gaps until ctx ends.
func (d *Driver) mendAll(ctx context.Context) {
	var told time.Time
	for wait := firstMend; ; {
		missing, since, gap := d.gap()
		if gap && missing > 0 && time.Since(since) > time.Second && !told.Equal(since) {
			told = since
			d.cfg.Log.Info("waiting for events that are in nobody's hands: they come after ack_wait_secs, and what is newer after them",
				slog.String("consumer", d.name), slog.Int("events", missing))
		}
		if !gap {
			select {
			case <-ctx.Done():
				return
			case <-d.gapped:
			}
			wait = firstMend
		}
		if err := d.mend(ctx); err != nil {
			d.cfg.Log.Debug("what is out cannot be asked for", "error", err)
		}
		if _, _, gap := d.gap(); gap {
			pause(ctx, wait)
			wait = min(2*wait, lastMend)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (d *Driver) gap() (missing int, since time.Time, gap bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.order.lost, d.order.since, d.order.gap
}

// mend asks the server once.
func (d *Driver) mend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	c, err := d.cfg.Topology.JS.Consumer(ctx, d.cfg.Topology.cfg.StreamName, d.name)
	if err != nil {
		return err
	}
	info := c.CachedInfo()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.order.gap {
		return nil
	}
	d.order.numberedBy(info.Created)
	if d.order.mended(info.Delivered.Consumer, info.NumAckPending, 3*d.ackWait/2) {
		slices.SortStableFunc(d.queue, func(a, b *entry) int { return cmp.Compare(a.at.sequence, b.at.sequence) })
		d.fetchable.set()
		return nil
	}
	d.wanted.set() // there is more to be received
	return nil
}
