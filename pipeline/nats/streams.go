package nats

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message schedules, by which retries wait on the server, came with this version.
const leastMajor, leastMinor = 2, 12

// startsTTL is how long a start without an outcome counts: longer than any pause between two attempts to run the process.
const startsTTL = 24 * time.Hour

// makePatience is how long a server may take to show a stream that another process is making.
const makePatience = time.Second

// Conn is a connection to the server, such as *natsconn.Conn.
type Conn interface {
	// Down returns why there is no connection now, nil when there is one.
	Down() error
	// Denied returns what the server said last about a right that the user lacks, "" when it said nothing.
	Denied() string
}

// Topology is what [Setup] made sure of on the server.
type Topology struct {
	// JS is through which the rest is reached.
	JS jetstream.JetStream
	// Starts holds the starts of suspects, see starts.go.
	Starts jetstream.KeyValue

	conn   *natsgo.Conn
	cfg    Config
	window int
}

// Setup creates the event stream and its consumers, or changes them to what cfg says. window is how many events may be out
// at the same time, over all workers; with 1 they come one after the other.
//
// An error that waiting cannot mend says so to [IsFatal], and what to change in its text. link may be nil.
func Setup(ctx context.Context, conn *natsgo.Conn, link Conn, cfg Config, window int) (*Topology, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("set up NATS: %w", err)
	}
	t := &Topology{JS: js, conn: conn, cfg: cfg, window: window}
	if err := t.create(ctx); err != nil {
		return nil, fmt.Errorf("set up NATS: %w", told(link, err))
	}
	return t, nil
}

// told adds what the server said apart from the request: it does not answer one for which a right is missing.
func told(link Conn, err error) error {
	silent := errors.Is(err, natsgo.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
	if link == nil || !silent {
		return err
	}
	if down := link.Down(); down != nil {
		return fmt.Errorf("%w: %w", err, down)
	}
	if said := link.Denied(); said != "" {
		return fmt.Errorf("%w: %w (grant the user $JS.API.>, $KV.>, $JS.ACK.> and its inbox): %s", err, ErrDenied, said)
	}
	return err
}

func (t *Topology) create(ctx context.Context) error {
	if err := t.checkServer(); err != nil {
		return err
	}
	if err := t.createStream(ctx); err != nil {
		return wrap("stream "+t.cfg.StreamName, err)
	}
	for _, name := range t.cfg.groups() {
		if err := t.createConsumers(ctx, name); err != nil {
			return err
		}
	}
	starts, err := t.createStarts(ctx)
	t.Starts = starts
	return wrap("bucket "+t.bucket(), err)
}

func (t *Topology) bucket() string { return t.cfg.StreamName + "_starts" }

func (t *Topology) createStarts(ctx context.Context) (jetstream.KeyValue, error) {
	return t.JS.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: t.bucket(), Description: "starts without an outcome, by event",
		TTL: startsTTL, History: 1, Storage: jetstream.FileStorage, Replicas: max(t.cfg.JetStream.Replicas, 1),
	})
}

// checkServer looks at what the server said of itself when it was reached.
func (t *Topology) checkServer() error {
	if err := checkVersion(t.conn.ConnectedServerVersion()); err != nil {
		return err
	}
	if enabled, _ := t.conn.ConnectedServerJetStream(); !enabled && t.conn.IsConnected() {
		return Diagnose(fmt.Errorf("%w: %w", ErrConflict, jetstream.ErrJetStreamNotEnabled))
	}
	return nil
}

// groups are the consumers that must exist before anything is published.
func (c Config) groups() []string {
	names := []string{c.ConsumerName}
	if c.JetStream.Retention == "interest" {
		names = append(names, c.JetStream.Groups...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// checkVersion takes the version that the server tells; "" is no connection.
func checkVersion(version string) error {
	var major, minor int
	if version == "" {
		return natsgo.ErrConnectionClosed
	}
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the server's version %q: %w", version, err)
	}
	if major < leastMajor || major == leastMajor && minor < leastMinor {
		return fmt.Errorf("%w: it is %s, and retries need message schedules, which came with %d.%d (upgrade nats-server)", ErrVersion, version, leastMajor, leastMinor)
	}
	return nil
}

func (t *Topology) createStream(ctx context.Context) error {
	want := t.cfg.stream()
	stream, err := t.JS.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err := t.JS.KeyValue(ctx, t.bucket()); err == nil { // made after the stream
			want.FirstSeq = anew()
		}
		stream, err = makeStream(ctx, t.JS, want)
	}
	if err != nil {
		return err
	}
	has := stream.CachedInfo().Config
	if n, ours := t.cfg.partitionsIn(has.Subjects); ours && n != t.cfg.JetStream.Partitions {
		if has, err = t.repartition(ctx, stream.CachedInfo(), n); err != nil {
			return err
		}
	}
	if err := conflict(has, want); err != nil {
		return err
	}
	if changed := adapt(has, want); !reflect.DeepEqual(has, changed) {
		_, err = t.JS.UpdateStream(ctx, changed)
	}
	return err
}

// makeStream makes a stream that is not there, or returns the one that another process has made at the same moment. The
// server may refuse the slower of the two with errors that would be final otherwise, that the first has taken the room or
// the subjects, and shows the first a moment later only.
func makeStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	var end time.Time
	for {
		made, err := js.CreateStream(ctx, want)
		if err == nil {
			return made, nil
		}
		if found, lookErr := js.Stream(ctx, want.Name); lookErr == nil {
			return found, nil
		}
		if end.IsZero() {
			end = time.Now().Add(makePatience)
		}
		taken := errors.Is(err, jetstream.ErrStreamNameAlreadyInUse)
		if !IsFatal(err) && !taken || time.Now().After(end) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(makePatience / 10):
		}
	}
}

func (c Config) stream() jetstream.StreamConfig {
	js := c.JetStream
	s := jetstream.StreamConfig{
		Name: c.StreamName, Description: "events of fraiseql observer", Subjects: []string{c.streamSubject()},
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
		MaxMsgs: js.MaxMsgs, MaxBytes: js.MaxBytes, MaxAge: time.Duration(js.MaxAgeDays) * 24 * time.Hour,
		Duplicates: time.Duration(js.DedupWindowMinutes) * time.Minute, Replicas: max(js.Replicas, 1),
	}
	if js.Retention == "interest" {
		s.Retention = jetstream.InterestPolicy
	}
	return s
}

// conflict tells how a stream differs in what cannot or must not be changed.
func conflict(has, want jetstream.StreamConfig) error {
	var wrong []string
	if !slices.Equal(has.Subjects, want.Subjects) {
		wrong = append(wrong, fmt.Sprintf("takes the subjects %s, not %s", strings.Join(has.Subjects, ", "), want.Subjects[0]))
	}
	if has.Retention != want.Retention {
		wrong = append(wrong, fmt.Sprintf("has retention %s, not %s", has.Retention, want.Retention))
	}
	if has.Storage != want.Storage {
		wrong = append(wrong, fmt.Sprintf("is in %s, not in %s storage", has.Storage, want.Storage))
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: it exists and %s (choose another transport.nats.stream_name, change the configuration to what the stream has, or delete the stream once it is empty)",
		ErrConflict, strings.Join(wrong, "; "))
}

// adapt changes what cfg says and keeps what an operator may have set beside it, such as placement and compression.
func adapt(has, want jetstream.StreamConfig) jetstream.StreamConfig {
	has.Discard, has.MaxMsgs, has.MaxBytes, has.MaxAge = want.Discard, want.MaxMsgs, want.MaxBytes, want.MaxAge
	has.Duplicates, has.Replicas = want.Duplicates, want.Replicas
	return has
}

// Consumer creates the durable consumer of a group for a topic, or changes it to what the configuration says.
func (t *Topology) Consumer(ctx context.Context, group, topic string) (jetstream.Consumer, error) {
	return t.consumer(ctx, consumer(group, topic), t.cfg.filter(topic), t.window)
}

func (t *Topology) consumer(ctx context.Context, name, filter string, window int) (jetstream.Consumer, error) {
	if err := t.samePartitions(ctx); err != nil {
		return nil, wrap("consumer "+name, err)
	}
	c, err := t.JS.CreateOrUpdateConsumer(ctx, t.cfg.StreamName, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		MaxDeliver:    -1, // otherwise what restarts gave back would stay in the stream, undelivered for ever
		AckWait:       t.cfg.ackWait(), MaxAckPending: window,
	})
	return c, wrap("consumer "+name, err)
}

func (c Config) ackWait() time.Duration {
	if c.JetStream.AckWaitSecs <= 0 {
		return 30 * time.Second
	}
	return time.Duration(c.JetStream.AckWaitSecs) * time.Second
}
