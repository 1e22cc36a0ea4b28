package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/window"
)

// Ack implements window.Driver. It does not wait for the server: what that does not confirm is told again, and is not handed
// out meanwhile. Close waits.
func (d *Driver) Ack(ctx context.Context, list []window.Item) error {
	acks, marked := make([]ack, 0, len(list)), []*entry(nil)
	for _, item := range list {
		e, raw := d.settle(item, true)
		if e == nil {
			continue
		}
		acks = append(acks, ack{e.at, raw})
		if e.marked {
			marked = append(marked, e)
		}
	}
	d.enqueueAcks(acks)
	for _, e := range marked {
		d.starts.clear(ctx, e)
	}
	return nil
}

// Nack implements window.Driver. A failure is an outcome: the event no longer counts as one that may have ended the process.
func (d *Driver) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	e, raw := d.settle(item, false)
	if e == nil {
		return nil
	}
	d.starts.clear(ctx, e)
	return wrap("nack", giveBack(raw, delay))
}

func giveBack(raw jetstream.Msg, delay time.Duration) error {
	if delay <= 0 {
		return raw.Nak()
	}
	return raw.NakWithDelay(delay)
}

// settle counts item as settled. It returns nil where it was that already. What is done waits for its confirmation, the rest
// is to come again.
func (d *Driver) settle(item window.Item, done bool) (*entry, jetstream.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := item.Raw.(*entry)
	if !ok || d.out[e.at] != e {
		return nil, nil
	}
	d.letGo(e)
	d.turns.end(e)
	if done {
		now := time.Now()
		d.unconfirmed[e.at] = &unconfirmed{raw: e.raw, since: now, next: now.Add(ackPatience), patience: ackPatience}
	} else {
		d.sent = true
		d.awaitAgain(e.at)
	}
	d.fetchable.set()
	return e, e.raw
}

// heartbeat keeps what is out from being delivered to others while it runs for long, and what is done until the server knows.
func (d *Driver) heartbeat(ctx context.Context) {
	tick := time.NewTicker(d.ackWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, raw := range d.outstanding() {
			if err := raw.InProgress(); err != nil {
				d.cfg.Log.Debug("heartbeat failed", "error", err)
			}
		}
	}
}

func (d *Driver) outstanding() []jetstream.Msg {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]jetstream.Msg, 0, len(d.out)+len(d.unconfirmed))
	for _, e := range d.out {
		list = append(list, e.raw)
	}
	for _, u := range d.unconfirmed {
		list = append(list, u.raw)
	}
	return list
}

// Close implements window.Driver: it gives back what was not handed out, and returns when the server has confirmed all acks
// and read the rest.
func (d *Driver) Close(ctx context.Context) error {
	d.once.Do(func() {}) // nothing begins any more
	if d.stop == nil {
		return nil
	}
	d.retire()
	ctx, cancel := context.WithTimeout(ctx, d.flushTimeout)
	defer cancel()
	err := d.awaitAcks(ctx)
	d.stop()
	d.beside.Wait()
	if err == nil && d.unread() {
		if failed := d.conn.FlushWithContext(ctx); failed != nil {
			err = fmt.Errorf("what was given back may have to wait for ack_wait_secs: %w", failed)
		}
	}
	if err != nil {
		err = fmt.Errorf("close nats driver: %w", err)
	}
	if failed := d.answers.Unsubscribe(); failed != nil && !errors.Is(failed, natsgo.ErrConnectionClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

func (d *Driver) unread() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent
}
