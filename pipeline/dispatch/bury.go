package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

const metadataPoison = window.MetadataPoison

var errUndeclared = errors.New("the observer or action that this delivery was parked for is no longer declared")

// decode returns the event of a message: the one that the driver attached, or the payload's. Its error says why the
// message must become a dead letter; the event then is what is known of it.
func decode(msg *message.Message) (*event.Event, error) {
	e := event.OfContext(msg.Context())
	var err error
	if e == nil {
		e, err = event.Decode(msg.Payload)
	}
	if err != nil {
		payload, _ := json.Marshal(string(msg.Payload)) // a string always marshals
		e = &event.Event{ID: msg.UUID, Type: event.Custom, Data: payload, Timestamp: time.Now()}
	}
	if reason := msg.Metadata.Get(metadataPoison); reason != "" {
		err = errors.New(reason)
	}
	return e, event.WithClass(err, cmp.Or(msg.Metadata.Get(window.MetadataPoisonClass), "unreadable"))
}

// bury makes the whole event a dead letter.
func (d *Dispatcher) bury(ctx context.Context, msg *message.Message, e *event.Event, cause error) {
	d.store(ctx, msg, failed(&event.Delivery{Event: e}, cause, event.Class(cause)))
}

func failed(d *event.Delivery, cause error, class string) *event.Delivery {
	dead := *d
	dead.Attempts = append(slices.Clip(dead.Attempts), event.Attempt{At: time.Now(), Error: cause.Error(), Class: class})
	return &dead
}

// store keeps trying, and so holds the upstream back, until the dead letter is durable or the process ends.
func (d *Dispatcher) store(ctx context.Context, msg *message.Message, dead *event.Delivery) {
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		err := d.cfg.DeadLetter(msg.Context(), dead)
		if err == nil {
			d.cfg.Log.Error("event became a dead letter", slog.String("event_id", dead.Event.ID), slog.String("entity", dead.Event.Entity),
				slog.String("observer", dead.Observer), slog.String("action", dead.Action), slog.String("error", dead.Attempts[len(dead.Attempts)-1].Error))
			window.Settle(msg.Context(), msg, true)
			return
		}
		d.cfg.Log.Warn("dead letter not stored, will try again", slog.String("event_id", dead.Event.ID), slog.Any("error", err))
		if !pause(msg.Context(), ctx.Done(), wait) {
			window.Settle(msg.Context(), msg, false)
			return
		}
	}
}
