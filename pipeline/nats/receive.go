package nats

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/lease"
	"github.com/fraiseql/observer/pipeline/window"
)

const (
	pullExpiry    = 30 * time.Second // of one request; another follows
	pullHeartbeat = 5 * time.Second  // a server that misses two of them has lost the request
	// A partition's requests have expired when another worker may take it: none of a stopped process gets its events.
	partitionExpiry    = lease.TTL
	partitionHeartbeat = lease.TTL / 2
	lastMessages       = 2 * time.Second // at most, for what the server sent before it knew that we want no more
)

// receive sees to it that a goroutine asks the server for as many messages as limit says; it ends with ctx, or with retire.
func (d *Driver) receive(ctx context.Context, limit int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil || d.revoked.Load() {
		return err
	}
	d.want = limit
	d.wanted.set()
	if d.pulling != nil {
		select {
		case <-d.pulling:
		default:
			return nil
		}
	}
	ended := make(chan struct{})
	d.pulling = ended
	ctx, stop := context.WithCancel(ctx)
	d.stopPull = stop
	go func() {
		defer close(ended)
		defer stop()
		var beside sync.WaitGroup
		if d.order != nil {
			beside.Go(func() { d.mendAll(ctx) })
		}
		d.pullAll(ctx)
		beside.Wait()
		d.returnQueue()
	}()
	return nil
}

// retire ends the goroutine that receives and waits for it.
func (d *Driver) retire() {
	d.mu.Lock()
	ended, stop := d.pulling, d.stopPull
	d.mu.Unlock()
	if ended != nil {
		stop()
		<-ended
	}
}

// pullAll asks for messages while Fetch wants some.
func (d *Driver) pullAll(ctx context.Context) {
	var consumer jetstream.Consumer
	for {
		n := d.missing()
		if n == 0 {
			select {
			case <-ctx.Done():
				return
			case <-d.wanted:
			}
			continue
		}
		err := d.pull(ctx, &consumer, n)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			consumer = nil // it may have been deleted
			d.fail(err)
		}
	}
}

// missing is how many messages Fetch wants beyond those that are there.
func (d *Driver) missing() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := max(0, d.want-len(d.queue))
	if d.order != nil && d.order.gap {
		n = max(n, d.order.lost)
	}
	return n
}

// fail lets Fetch return err; nothing is asked for until it is called again.
func (d *Driver) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure, d.want = err, 0
	if d.order != nil {
		d.order.lost = 0
	}
	d.fetchable.set()
}

// pull receives n messages, or fewer when ctx ends.
func (d *Driver) pull(ctx context.Context, consumer *jetstream.Consumer, n int) (err error) {
	if *consumer == nil {
		if *consumer, err = d.consumer(ctx); err != nil {
			return err
		}
	}
	expiry, heartbeat := pullExpiry, pullHeartbeat
	if d.order != nil {
		expiry, heartbeat = partitionExpiry, partitionHeartbeat
	}
	messages, err := (*consumer).Messages(jetstream.PullMaxMessages(n), jetstream.StopAfter(n),
		jetstream.PullExpiry(expiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range n {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			d.drain(messages, msg)
			return nil
		}
		if err != nil {
			return err
		}
		d.queueUp(msg)
	}
	return nil
}

// drain queues what the server has sent already, to be given back.
func (d *Driver) drain(messages jetstream.MessagesContext, last jetstream.Msg) {
	messages.Drain()
	for msg, err := last, error(nil); err == nil; msg, err = messages.Next(jetstream.NextMaxWait(lastMessages)) {
		if msg != nil {
			d.queueUp(msg)
		}
	}
}

// queueUp makes an entry of a message that the server delivered.
func (d *Driver) queueUp(raw jetstream.Msg) {
	meta, err := raw.Metadata()
	if err != nil {
		d.cfg.Log.Warn("a message came that is none of a stream", "error", err)
		return
	}
	at := place{meta.Sequence.Stream, meta.Timestamp.UnixNano()}
	if d.again(at, meta.Sequence, raw) {
		return
	}
	msg := unmarshal(raw, meta)
	if !d.cfg.Opaque {
		decode(msg)
	}
	e := &entry{driver: d, at: at, raw: raw, id: msg.UUID, delivered: meta.NumDelivered}
	e.item = window.Item{Msg: msg, Raw: e}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.admit(meta.Sequence)
	d.queue = append(d.queue, e)
	d.out[at] = e
	d.fetchable.set()
}

// again reports whether we have, or had, the message already: the server did not hear of our heartbeats, or of our ack, which
// is sent again.
func (d *Driver) again(at place, number jetstream.SequencePair, raw jetstream.Msg) bool {
	d.mu.Lock()
	e, u := d.out[at], d.unconfirmed[at]
	_, crossing := d.crossing[at]
	switch {
	case e != nil:
		e.raw = raw
	case u != nil:
		u.raw, u.before, u.doubtful = raw, nil, true
	case !crossing:
		d.mu.Unlock()
		return false
	}
	d.admit(number)
	if crossing {
		d.release(at)
	}
	d.mu.Unlock()
	if e == nil {
		d.sendAck(at, raw)
	}
	return true
}

// returnQueue gives everything back that was not handed out, so that another worker gets it without waiting for ours to
// time out.
func (d *Driver) returnQueue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failed error
	for _, e := range d.queue {
		d.letGo(e)
		d.release(e.at)
		failed = errors.Join(failed, giveBack(e.raw, 0))
	}
	d.sent = d.sent || len(d.queue) > 0
	d.queue, d.want = nil, 0
	if d.order != nil {
		d.order.open()
	}
	if failed != nil {
		d.cfg.Log.Warn("giving messages back failed, they will come again after ack_wait_secs", "error", failed)
	}
}
