package event

import (
	"context"
	"time"
)

// Delivery is one event for one action of one observer.
type Delivery struct {
	Event      *Event
	Observer   string
	Action     string
	Generation int       // 0, and one more at each operator's replay
	Attempts   []Attempt // failed attempts so far, oldest first
	Prior      int       // how many of Attempts are of earlier generations
	// Lane names the deliveries that it must stay in order with, even while it is parked: those that share observer, action
	// and Lane. "" lets others overtake a parked delivery.
	Lane string
}

// Attempt records one failed run of an action.
type Attempt struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
	Class string    `json:"class"`
	// Generation is the delivery's, set when it is stored.
	Generation int `json:"generation,omitempty"`
}

// Tries counts the failed attempts of this generation: a replay starts anew.
func (d *Delivery) Tries() int { return len(d.Attempts) - d.Prior }

// ID identifies the delivery towards receivers: it is the same for every attempt and every generation.
func (d *Delivery) ID() string { return d.Event.ID + "_" + d.Observer + "_" + d.Action }

type deliveryKey struct{}

// NewContext returns a copy of ctx that carries d.
func NewContext(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, d)
}

// FromContext returns the delivery that ctx carries, nil when it carries none.
func FromContext(ctx context.Context) *Delivery {
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}
