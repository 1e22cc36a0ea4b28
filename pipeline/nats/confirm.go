package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An ack that dies with the leader of the consumer would let its event be done twice, so each is sent with the address of
// an answer, and again until the server has answered. nats-server (2.15, consumer.go) answers with an empty message: one
// server once it has taken the event from the consumer and from the stream in its memory, which it writes within some 100 ms;
// a consumer of several copies once a quorum of them has the ack. It answers each repetition too, also for an event that
// is long gone. Without a leader, and without the consumer, there is "no responders"; a leader that has not heard yet that
// the event was delivered, and one that is deposed, say nothing.
//
// A consumer of one copy takes the acks of a connection in their order, so the answer to the last of a burst stands for the
// others. With several copies another leader may take the last, so each has its answer.

const (
	ackPace      = time.Millisecond       // between two bursts: each costs both sides an answer and a write
	ackLook      = 100 * time.Millisecond // between two looks at what was not answered
	ackPatience  = time.Second            // until an ack without an answer is sent again, doubled each time
	ackRest      = 10 * time.Second       // the longest such time
	burstSpan    = 500 * time.Millisecond // from a burst to the answer: too short for a server to die and come back
	streamDoubts = 2 * time.Second        // without an answer: is that stream there at all?
	crossed      = 10 * time.Second       // within which an event arrives that was sent again before its ack arrived there
)

// place is where the server keeps a message. The time tells the messages of a stream from those of another with its name.
type place struct {
	sequence uint64
	stored   int64 // nanoseconds since 1970
}

func (p place) token() string {
	return strconv.FormatUint(p.sequence, 10) + "." + strconv.FormatInt(p.stored, 10)
}

func placeOf(token string) (p place, err error) {
	sequence, stored, _ := strings.Cut(token, ".")
	p.sequence, err = strconv.ParseUint(sequence, 10, 64)
	if err == nil {
		p.stored, err = strconv.ParseInt(stored, 10, 64)
	}
	return p, err
}

// unconfirmed is an event that is done, of which the server may not know.
type unconfirmed struct {
	raw      jetstream.Msg
	since    time.Time
	next     time.Time // when it is acked again
	patience time.Duration
	before   *burst // nil: an answer stands for this one only; guarded by the driver's mu
	doubtful bool   // the server may have sent the event again
}

// ack is one that is to be sent.
type ack struct {
	at  place
	raw jetstream.Msg
}

// burst is what was acked before the last of several acks.
type burst struct {
	acks  []ack
	links uint64 // which connection it was
	begun time.Time
}

// covered reports whether all went the same way: neither the connection nor the server can have changed on the way.
func (b *burst) covered(links uint64) bool {
	return b != nil && links == b.links && time.Since(b.begun) < burstSpan
}

// listen subscribes to the answers of the server. Close ends that.
func (d *Driver) listen() (err error) {
	d.inbox = d.conn.NewInbox() + "."
	d.answers, err = d.conn.Subscribe(d.inbox+">", d.answered)
	return err
}

// answered notes one answer.
func (d *Driver) answered(m *natsgo.Msg) {
	at, err := placeOf(strings.TrimPrefix(m.Subject, d.inbox))
	if err != nil {
		return
	}
	links := d.conn.Stats().Reconnects
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.unconfirmed[at]
	if u == nil {
		return
	}
	if m.Header.Get("Status") != "" { // no leader
		u.refused(d.unconfirmed)
		return
	}
	d.forget(at)
	if u.before.covered(links) {
		for _, a := range u.before.acks {
			d.forget(a.at)
		}
	}
}

// refused makes an ack due, and those that it stood for. It is called under the lock.
func (u *unconfirmed) refused(all map[place]*unconfirmed) {
	u.next = time.Now()
	if u.before == nil {
		return
	}
	for _, a := range u.before.acks {
		if other := all[a.at]; other != nil {
			other.next = u.next
		}
	}
	u.before = nil
}

// forget is called under the lock.
func (d *Driver) forget(at place) {
	u := d.unconfirmed[at]
	if u == nil {
		return
	}
	delete(d.unconfirmed, at)
	d.release(at)
	if u.doubtful {
		d.crossing[at] = time.Now().Add(crossed)
	}
	if len(d.unconfirmed) == 0 {
		d.confirmed.set()
	}
}

// enqueueAcks has acks sent with the next burst.
func (d *Driver) enqueueAcks(list []ack) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acks = append(d.acks, list...)
	d.acked.set()
}

// sendAll sends bursts until ctx ends; Close sees to it that there is nothing to send then.
func (d *Driver) sendAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.acked:
		}
		d.mu.Lock()
		list := d.acks
		d.acks = nil
		d.mu.Unlock()
		d.sendAcks(list)
		pause(ctx, ackPace)
	}
}

// sendAcks sends a burst.
func (d *Driver) sendAcks(list []ack) {
	if len(list) < 2 || d.cfg.Topology.cfg.JetStream.Replicas > 1 {
		for _, a := range list {
			d.sendAck(a.at, a.raw)
		}
		return
	}
	b := &burst{acks: list[:len(list)-1], links: d.conn.Stats().Reconnects, begun: time.Now()}
	last := list[len(list)-1]
	d.mu.Lock()
	if u := d.unconfirmed[last.at]; u != nil { // else it came again and was acked for that
		u.before = b
	}
	d.mu.Unlock()
	for _, a := range b.acks {
		_ = d.conn.Publish(a.raw.Reply(), nil) // see sendAck
	}
	d.sendAck(last.at, last.raw)
}

// sendAck does not say whether it could: what was not sent is not answered.
func (d *Driver) sendAck(at place, raw jetstream.Msg) {
	_ = d.conn.PublishRequest(raw.Reply(), d.inbox+at.token(), nil)
}

// repeatAcks sends again what is not answered, until ctx ends.
func (d *Driver) repeatAcks(ctx context.Context) {
	tick := time.NewTicker(ackLook)
	defer tick.Stop()
	var links uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := d.conn.Stats().Reconnects
		due, doubtful := d.dueAcks(now != links)
		links = now
		if len(due) == 0 || !d.conn.IsConnected() || doubtful && !d.forgetGone(ctx, due) {
			continue
		}
		d.cfg.Log.Debug("acks have no answer and are sent again", "events", len(due))
		for at, raw := range due {
			d.sendAck(at, raw)
		}
	}
}

// dueAcks returns what is to be acked again: all of it when the connection is another one. It tells whether some wait for so
// long that the stream may be gone.
func (d *Driver) dueAcks(all bool) (due map[place]jetstream.Msg, doubtful bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(d.crossing, func(_ place, until time.Time) bool { return until.Before(now) })
	for at, u := range d.unconfirmed {
		if u.next.After(now) && !all {
			continue
		}
		if due == nil {
			due = map[place]jetstream.Msg{}
		}
		due[at], u.before, u.doubtful = u.raw, nil, true
		u.patience = min(2*u.patience, ackRest)
		u.next = now.Add(u.patience)
		doubtful = doubtful || now.Sub(u.since) > streamDoubts
	}
	return due, doubtful
}

// forgetGone takes from due, and forgets, what the stream no longer holds; in a stream that was created again an ack would
// hit another event. It reports false when the server does not say.
func (d *Driver) forgetGone(ctx context.Context, due map[place]jetstream.Msg) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := d.cfg.Topology.State(ctx)
	gone := errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil && !gone {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := range due {
		if gone || at.sequence < s.First || at.stored < s.Created.UnixNano() {
			delete(due, at)
			d.forget(at)
		}
	}
	return true
}

// awaitAcks returns when the server has confirmed every ack.
func (d *Driver) awaitAcks(ctx context.Context) error {
	tick := time.NewTicker(ackLook)
	defer tick.Stop()
	for {
		d.mu.Lock()
		n := len(d.unconfirmed)
		d.mu.Unlock()
		switch {
		case n == 0:
			return nil
		case ctx.Err() != nil || d.conn.IsClosed():
			return fmt.Errorf("the server has not confirmed %d acks, these events may come again", n)
		}
		select {
		case <-ctx.Done():
		case <-tick.C: // the connection may be closed
		case <-d.confirmed:
		}
	}
}
