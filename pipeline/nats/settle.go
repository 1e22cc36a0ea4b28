package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer/pipeline/window"
)

// Ack implements window.Driver. The server has read it when Close returns nil.
func (d *Driver) Ack(ctx context.Context, list []window.Item) error {
	var failed error
	for _, item := range list {
		e, ok := d.settle(item, false)
		if !ok {
			continue
		}
		if err := e.raw.Ack(); err != nil {
			failed = errors.Join(failed, err)
			continue // it comes again, and what is noted of it with it
		}
		d.starts.clear(ctx, e)
	}
	return wrap("ack", failed)
}

// Nack implements window.Driver. A failure is an outcome: the event no longer counts as one that may have ended the process.
func (d *Driver) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	e, ok := d.settle(item, true)
	if !ok {
		return nil
	}
	d.starts.clear(ctx, e)
	return wrap("nack", e.giveBack(delay))
}

func (e *entry) giveBack(delay time.Duration) error {
	if delay <= 0 {
		return e.raw.Nak()
	}
	return e.raw.NakWithDelay(delay)
}

// settle reports whether item was still out, and counts it as settled; again says that it is to come again.
func (d *Driver) settle(item window.Item, again bool) (*entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := item.Raw.(*entry)
	if !ok {
		return nil, false
	}
	if _, out := d.out[e]; !out {
		return nil, false
	}
	d.letGo(e)
	d.turns.end(e)
	if again && d.order != nil {
		d.order.open() // what is newer waits for it
		d.gapped.set()
	}
	d.sent = true
	d.fetchable.set()
	return e, true
}

// heartbeat keeps what is out from being delivered to others while it runs for long.
func (d *Driver) heartbeat(ctx context.Context) {
	defer close(d.beating)
	tick := time.NewTicker(d.ackWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, e := range d.outstanding() {
			if err := e.raw.InProgress(); err != nil {
				d.cfg.Log.Debug("heartbeat failed", "event_id", e.id, "error", err)
			}
		}
	}
}

func (d *Driver) outstanding() []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*entry, 0, len(d.out))
	for e := range d.out {
		list = append(list, e)
	}
	return list
}

// Close implements window.Driver: it gives back what was not handed out, and returns when the server has read all acks.
func (d *Driver) Close(ctx context.Context) error {
	d.beat.Do(func() {}) // nothing begins any more
	if d.stop == nil {
		return nil
	}
	d.retire()
	d.stop()
	<-d.beating
	if !d.unread() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := d.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("close nats driver: what was acked last may come again: %w", err)
	}
	return nil
}

func (d *Driver) unread() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent
}
