package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Finding is what [Inspect] says of one thing on the server.
type Finding struct {
	Name   string
	Detail string
	Err    error // why [Setup] would fail, and what to do
}

// Inspect looks at what [Setup] makes sure of and changes nothing. It stops at the first thing without which the others
// cannot be there. link may be nil.
func Inspect(ctx context.Context, conn *natsgo.Conn, link Conn, cfg Config) []Finding {
	js, err := jetstream.New(conn)
	if err != nil {
		return []Finding{{Name: "nats", Err: err}}
	}
	i := inspector{Topology: Topology{JS: js, conn: conn, cfg: cfg}, link: link}
	if !i.server(ctx) || !i.stream(ctx) {
		return i.found
	}
	for _, name := range cfg.groups() {
		i.consumer(ctx, name)
	}
	return i.found
}

type inspector struct {
	Topology

	link  Conn
	found []Finding
}

func (i *inspector) note(name, detail string, err error) bool {
	if err != nil {
		err = fmt.Errorf("%s: %w", detail, told(i.link, Diagnose(err)))
		detail = ""
	}
	i.found = append(i.found, Finding{Name: name, Detail: detail, Err: err})
	return err == nil
}

func (i *inspector) server(ctx context.Context) bool {
	err := i.checkServer()
	if err == nil {
		_, err = i.JS.AccountInfo(ctx)
	}
	if err == nil && i.cfg.JetStream.Replicas > 1 && i.conn.ConnectedClusterName() == "" {
		err = fmt.Errorf("%w: %s", ErrConflict, advice[codeNotClustered])
	}
	if err != nil {
		return i.note("nats", "ask NATS", err)
	}
	return i.note("nats", "answers, "+i.conn.ConnectedServerVersion()+" with JetStream", nil)
}

func (i *inspector) stream(ctx context.Context) bool {
	name, want := i.cfg.StreamName, i.cfg.stream()
	stream, err := i.JS.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = i.free(ctx, want.Subjects[0]); err == nil {
			i.note("stream", name+" is missing; run creates it, with its consumer", nil)
			return false
		}
	}
	if err != nil {
		return i.note("stream", name, err)
	}
	info := stream.CachedInfo()
	has, ours := i.cfg.partitionsIn(info.Config.Subjects)
	if ours && has != i.cfg.JetStream.Partitions {
		if info.State.Msgs > 0 {
			return i.note("stream", name, i.otherPartitions(has, info.State.Msgs))
		}
		i.note("stream", fmt.Sprintf("%s: 0 events, %d partitions; run gives it %d, and its consumers", name, has, i.cfg.JetStream.Partitions), nil)
		return false
	}
	if err := conflict(info.Config, want); err != nil {
		return i.note("stream", name, err)
	}
	detail := fmt.Sprintf("%s: %d events", name, info.State.Msgs)
	if has > 0 {
		detail += fmt.Sprintf(", %d partitions", has)
	}
	if differs(info.Config, want) {
		detail += "; has other limits, run changes them to those of the configuration"
	}
	return i.note("stream", detail, nil)
}

// free reports whether no other stream takes the subjects.
func (i *inspector) free(ctx context.Context, subject string) error {
	names := i.JS.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
	var others []string
	for name := range names.Name() {
		others = append(others, name)
	}
	if err := names.Err(); err != nil || len(others) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s takes %s: %s", ErrConflict, strings.Join(others, ", "), subject, advice[codeSubjectOverlap])
}

// differs compares what [adapt] would change.
func differs(has, want jetstream.StreamConfig) bool {
	return has.Discard != want.Discard || has.MaxMsgs != want.MaxMsgs || has.MaxBytes != want.MaxBytes ||
		has.MaxAge != want.MaxAge || has.Duplicates != want.Duplicates || has.Replicas != want.Replicas
}

func (i *inspector) consumer(ctx context.Context, name string) {
	infos, err := i.consumerInfos(ctx, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if err = i.alone(ctx, consumers(name, i.cfg.JetStream.Partitions)); err == nil {
			i.note("consumer", name+" is missing; run creates it", nil)
			return
		}
	}
	if err != nil {
		i.note("consumer", name, err)
		return
	}
	var wait uint64
	var work int
	for _, info := range infos {
		wait, work = wait+info.NumPending, work+info.NumAckPending
	}
	i.note("consumer", fmt.Sprintf("%s: %d events wait, %d are in work", name, wait, work), nil)
}

// alone reports whether a work queue has no other reader, of which it takes one only.
func (i *inspector) alone(ctx context.Context, own []string) error {
	if i.cfg.stream().Retention != jetstream.WorkQueuePolicy {
		return nil
	}
	stream, err := i.JS.Stream(ctx, i.cfg.StreamName)
	if err != nil {
		return err
	}
	names := stream.ConsumerNames(ctx)
	var others []string
	for name := range names.Name() {
		if !slices.Contains(own, name) {
			others = append(others, name)
		}
	}
	if err := names.Err(); err != nil || len(others) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s is there: %s", ErrConflict, strings.Join(others, ", "), advice[codeNotUnique])
}
