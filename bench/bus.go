package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/nats"
)

// consumer is the durable consumer of each stream.
const consumer = "bench"

// bus is a NATS server in a process of its own, as it comes: it keeps streams in files and acknowledges before the fsync.
type bus struct {
	server *child
	url    string
	conn   *natsgo.Conn
	js     jetstream.JetStream
}

func (b *bench) bus(ctx context.Context) (*bus, error) {
	c, err := b.start(ctx, spec{Role: "nats", Dir: filepath.Join(b.dir, b.name("nats"))})
	if err != nil {
		return nil, err
	}
	r, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	s := &bus{server: c, url: r.URL}
	if s.conn, err = natsgo.Connect(r.URL); err != nil {
		return nil, errors.Join(err, c.kill())
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *bus) close() error {
	s.conn.Close()
	_, err := s.server.stop()
	return err
}

// serveNATS is the server's own program.
func serveNATS(s spec) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: s.Dir,
		JetStreamMaxStore: 1 << 40, // a stream reserves its max_bytes, which a small disk does not have
		NoSigs:            true, NoLog: true,
	})
	if err != nil {
		return err
	}
	running.Start()
	if !running.ReadyForConnections(time.Minute) {
		return errors.New("start NATS: it takes no connections")
	}
	report{URL: running.ClientURL()}.print()
	<-ctx.Done()
	running.Shutdown()
	running.WaitForShutdown()
	return nil
}

// stream makes a stream and its consumer as the program does by default, so that everybody has the same.
func (s *bus) stream(ctx context.Context, name string) (*nats.Topology, error) {
	return nats.Setup(ctx, s.conn, nil, nats.Config{
		StreamName: name, SubjectPrefix: name, ConsumerName: consumer,
		JetStream: nats.JetStream{DedupWindowMinutes: 5, MaxMsgs: 10_000_000, MaxBytes: 10 << 30},
	}, nats.Ahead)
}

// filled waits until the stream has had that many events, and returns how long they took by the server's clock.
func (s *bus) filled(ctx context.Context, name string, want int64) (report, error) {
	var state jetstream.StreamState
	var failed error
	err := poll(ctx, 50*time.Millisecond, func() bool { // seldom: the server is what is measured
		var stream jetstream.Stream
		if stream, failed = s.js.Stream(ctx, name); failed == nil {
			state = stream.CachedInfo().State
		}
		return failed != nil || int64(state.LastSeq) >= want
	})
	if err = errors.Join(err, failed); err != nil {
		return report{}, fmt.Errorf("wait for %d events in the stream, it had %d: %w", want, state.LastSeq, err)
	}
	return report{Events: int64(state.LastSeq), Distinct: int64(state.Msgs), Seconds: state.LastTime.Sub(state.FirstTime).Seconds()}, nil
}

// drain takes everything out of a stream that nobody fills, and notes it.
func (s *bus) drain(ctx context.Context, name string, t *nats.Topology, l *ledger) error {
	state, err := t.State(ctx)
	if err != nil {
		return err
	}
	from, err := s.js.Consumer(ctx, name, consumer)
	if err != nil {
		return err
	}
	messages, err := from.Messages(jetstream.PullMaxMessages(pull))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range state.Events {
		msg, err := messages.Next(jetstream.NextMaxWait(runTimeout))
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		l.arrived(msg.Data())
		if err := msg.Ack(); err != nil {
			return err
		}
	}
	return nil
}
