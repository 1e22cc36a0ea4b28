package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

// DeadLettersConfig describes [DeadLetters]. Stream and Consumer are required.
type DeadLettersConfig struct {
	Stream   string // of the events; the dead letters are the stream <Stream>_dead_letters
	Consumer string // of the retry queue, which delivers replays; each has dead letters of its own
	Replicas int    // 0: 1
}

// DeadLetters keeps what failed for good in a stream, one message a delivery. Whoever lists, counts or selects reads that
// whole stream, a message at a time, and keeps what List shows of each but neither events nor attempts: some hundred
// thousand dead letters are a matter of seconds and a hundred megabytes.
type DeadLetters struct {
	cfg      DeadLettersConfig
	js       jetstream.JetStream
	stream   jetstream.Stream
	retries  jetstream.Stream
	subjects subjects
}

var (
	_ middleware.DeadLetters = (*DeadLetters)(nil)
	_ deadletter.Store       = (*DeadLetters)(nil)
)

// OpenDeadLetters creates the streams of dead letters and of retries where they are missing.
func OpenDeadLetters(ctx context.Context, js jetstream.JetStream, cfg DeadLettersConfig) (*DeadLetters, error) {
	if cfg.Stream == "" || cfg.Consumer == "" {
		return nil, errors.New("dead letters: Stream and Consumer are required")
	}
	if err := schedules(js.Conn().ConnectedServerVersion()); err != nil {
		return nil, err
	}
	l := &DeadLetters{cfg: cfg, js: js, subjects: subjects{cfg.Stream, cfg.Consumer}}
	var err error
	if l.stream, err = ensureStream(ctx, js, cfg.dead()); err != nil {
		return nil, wrap("create stream of dead letters", err)
	}
	if l.retries, err = ensureStream(ctx, js, cfg.parked()); err != nil {
		return nil, wrap("create stream of retries", err)
	}
	return l, nil
}

func (c DeadLettersConfig) dead() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: c.Stream + "_dead_letters", Subjects: []string{c.Stream + "_dead_letters.*.*"}, MaxMsgsPerSubject: 1, Replicas: max(c.Replicas, 1),
		Description: "deliveries that failed for good",
	}
}

func (c DeadLettersConfig) parked() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: retriesStream(c.Stream), Subjects: []string{retriesStream(c.Stream) + ".>"}, MaxMsgsPerSubject: 1, Replicas: max(c.Replicas, 1),
		Retention: jetstream.WorkQueuePolicy, AllowMsgSchedules: true, Description: "deliveries that wait for their next attempt",
	}
}

// schedules refuses servers that know no message schedules: they take the messages and never deliver them. Where there is
// no connection, creating the streams fails.
func schedules(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && (major < 2 || major == 2 && minor < 12) {
		return fmt.Errorf("NATS server %s knows no message schedules, with which retries wait: 2.12 or newer is needed", version)
	}
	return nil
}

func (l *DeadLetters) subject(key string) string {
	return l.cfg.Stream + "_dead_letters." + l.cfg.Consumer + "." + key
}

// Put implements middleware.DeadLetters. The parked entry of the same delivery goes afterwards. Of an event that is too large
// for a message the dead letter says which one it was and why it is missing.
func (l *DeadLetters) Put(ctx context.Context, d *event.Delivery) error {
	key := deliveryKey(d.Event.ID, d.Observer, d.Action)
	r := newRecord(d)
	err := l.merge(ctx, key, r)
	if unstorable(err) {
		r.Event = nil
		r.Error += " (the event itself cannot be kept: " + err.Error() + ")"
		err = l.merge(ctx, key, r)
	}
	if err != nil {
		return wrap("store dead letter", err)
	}
	for _, subject := range []string{l.subjects.park(key), l.subjects.due(key), l.subjects.lane("*", key)} {
		if err := l.retries.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return wrap("unpark dead letter", err)
		}
	}
	return nil
}

// merge stores r in place of what is there of the same delivery.
func (l *DeadLetters) merge(ctx context.Context, key string, r *record) error {
	for {
		was, err := l.read(ctx, key)
		if err != nil {
			return err
		}
		next := *r
		if was != nil {
			next.ID, next.Generation = was.ID, max(next.Generation, was.Generation)
			if was.First.Before(next.First) {
				next.First = was.First
			}
		}
		if err := l.replace(ctx, key, was, &next); !exists(err) {
			return err
		}
	}
}

// replace stores next if was, nil for none, is still what is there. Else the error is one that exists reports.
func (l *DeadLetters) replace(ctx context.Context, key string, was, next *record) error {
	body, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	var sequence uint64
	if was != nil {
		sequence = was.sequence
	}
	_, err = l.js.PublishMsg(ctx, &natsgo.Msg{Subject: l.subject(key), Header: natsgo.Header{}, Data: body}, jetstream.WithExpectLastSequencePerSubject(sequence))
	return err
}

// read returns the dead letter of a delivery, nil when there is none.
func (l *DeadLetters) read(ctx context.Context, key string) (*record, error) {
	msg, err := lastMessage(ctx, l.stream, l.subject(key))
	if err != nil || msg == nil {
		return nil, err
	}
	return decodeRecord(msg.Data, msg.Sequence)
}

// succeeded removes the dead letter whose replay has succeeded.
func (l *DeadLetters) succeeded(ctx context.Context, key string, generation int) error {
	was, err := l.read(ctx, key)
	if err != nil || was == nil || !was.retrying() || was.Generation > generation {
		return err
	}
	return deleteMessage(ctx, l.stream, was.sequence)
}

// record is a stored dead letter.
type record struct {
	ID         int64           `json:"id,omitempty"` // the sequence of its first message; 0 in that
	EventID    string          `json:"event_id"`
	Observer   string          `json:"observer"`
	Action     string          `json:"action"`
	Entity     string          `json:"entity"`
	Generation int             `json:"generation"`
	Error      string          `json:"error"`
	Class      string          `json:"error_class"`
	First      time.Time       `json:"first_failed_at"`
	Last       time.Time       `json:"last_failed_at"`
	Retried    time.Time       `json:"retried_at,omitzero"` // when a replay of it was asked for; zero: it rests
	Attempts   []event.Attempt `json:"attempts"`
	Event      json.RawMessage `json:"event,omitempty"`

	sequence uint64
	tries    int  // how many Attempts there are
	hasEvent bool // whether there is an Event, also where it was left out
}

func newRecord(d *event.Delivery) *record {
	last := event.Attempt{At: time.Now(), Class: "error"}
	first := last.At
	if n := len(d.Attempts); n > 0 {
		last, first = d.Attempts[n-1], d.Attempts[0].At
	}
	return &record{
		EventID: d.Event.ID, Observer: d.Observer, Action: d.Action, Entity: d.Event.Entity, Generation: d.Generation,
		Error: last.Error, Class: last.Class, First: first, Last: last.At, Attempts: markedAttempts(d), Event: d.Event.JSON(),
	}
}

func decodeRecord(body []byte, sequence uint64) (*record, error) {
	r := &record{sequence: sequence}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("decode dead letter %d: %w", sequence, err)
	}
	if r.ID == 0 {
		r.ID = int64(sequence) //nolint:gosec // no stream gets that far
	}
	r.tries, r.hasEvent = len(r.Attempts), r.Event != nil
	return r, nil
}

func (r *record) retrying() bool { return !r.Retried.IsZero() }

func (r *record) key() string { return deliveryKey(r.EventID, r.Observer, r.Action) }

// ensureStream creates a stream, or changes one that lacks what it needs. One that fits is left alone.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = makeStream(ctx, js, want)
	}
	if err != nil {
		return nil, err
	}
	has := stream.CachedInfo().Config
	if slices.Equal(has.Subjects, want.Subjects) && has.MaxMsgsPerSubject == want.MaxMsgsPerSubject && has.Replicas == want.Replicas &&
		has.Retention == want.Retention && has.AllowMsgSchedules == want.AllowMsgSchedules {
		return stream, nil
	}
	return js.UpdateStream(ctx, want)
}
