package nats

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
)

// Error codes of the server that nats.go has no name for.
const codeTooLarge jetstream.ErrorCode = 10054 // message size exceeds maximum allowed

// entry is what the queue stores of a delivery.
type parkedEntry struct {
	EventID    string          `json:"event_id"`
	Observer   string          `json:"observer"`
	Action     string          `json:"action"`
	Generation int             `json:"generation,omitempty"`
	Lane       string          `json:"lane,omitempty"`
	Due        time.Time       `json:"due"`
	Parked     time.Time       `json:"parked"` // for the first time
	PutOff     int             `json:"put_off,omitempty"`
	Attempts   []event.Attempt `json:"attempts,omitempty"`
	Event      json.RawMessage `json:"event"`
}

func newEntry(d *event.Delivery, due time.Time) *parkedEntry {
	return &parkedEntry{
		EventID: d.Event.ID, Observer: d.Observer, Action: d.Action, Generation: d.Generation, Lane: d.Lane,
		Due: due, Parked: time.Now(), Attempts: markedAttempts(d), Event: d.Event.JSON(),
	}
}

// markedAttempts marks each attempt with its generation: those that were not there before are of the present one.
func markedAttempts(d *event.Delivery) []event.Attempt {
	list := append([]event.Attempt(nil), d.Attempts...)
	for i := d.Prior; i < len(list); i++ {
		list[i].Generation = d.Generation
	}
	return list
}

func (e *parkedEntry) delivery() (*event.Delivery, error) {
	d := &event.Delivery{Observer: e.Observer, Action: e.Action, Generation: e.Generation, Lane: e.Lane, Attempts: e.Attempts}
	for _, a := range d.Attempts {
		if a.Generation < d.Generation {
			d.Prior++
		}
	}
	var err error
	d.Event, err = event.Decode(e.Event)
	return d, err
}

// key names the delivery in subjects.
func (e *parkedEntry) key() string { return deliveryKey(e.EventID, e.Observer, e.Action) }

// laneKey names the lane in subjects, "" for none.
func (e *parkedEntry) laneKey() string {
	if e.Lane == "" {
		return ""
	}
	return digest(e.Observer, e.Action, e.Lane)
}

func deliveryKey(eventID, observer, action string) string { return digest(eventID, observer, action) }

func digest(parts ...string) string {
	text, _ := json.Marshal(parts) // strings always can be
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

func (e *parkedEntry) message() (*natsgo.Msg, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode delivery: %w", err)
	}
	return &natsgo.Msg{Header: natsgo.Header{}, Data: body}, nil
}

func decodeEntry(b []byte) (*parkedEntry, error) {
	e := &parkedEntry{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("decode delivery: %w", err)
	}
	return e, nil
}

// subjects are those of the retries of one consumer.
type subjects struct{ stream, consumer string }

func retriesStream(stream string) string { return stream + "_retries" }

func (s subjects) of(kind, rest string) string {
	return retriesStream(s.stream) + "." + s.consumer + "." + kind + "." + rest
}

func (s subjects) park(key string) string    { return s.of("park", key) }
func (s subjects) due(key string) string     { return s.of("due", key) }
func (s subjects) start(key string) string   { return s.of("start", key) }
func (s subjects) lane(l, key string) string { return s.of("lane", l+"."+key) }

func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// laneOf returns the lane token of a lane subject.
func laneOf(subject string) string {
	return lastToken(subject[:strings.LastIndexByte(subject, '.')])
}

// lastMessage returns nil when there is none.
func lastMessage(ctx context.Context, s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return msg, err
}

// firstMessage returns the oldest of a subject, nil when there is none.
func firstMessage(ctx context.Context, s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	msg, err := s.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return msg, err
}

// deleteMessage does not mind that it is gone.
func deleteMessage(ctx context.Context, s jetstream.Stream, sequence uint64) error {
	err := s.DeleteMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, &jetstream.APIError{ErrorCode: codeNoSuchSequence}) {
		return nil
	}
	return err
}

const codeNoSuchSequence jetstream.ErrorCode = 10043 // sequence not found
