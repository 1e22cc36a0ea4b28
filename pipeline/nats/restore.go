package nats

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An operator may delete what we have made while we run. It is made again, empty: of the events the bridge's second
// checkpoint knows what to publish again; deliveries that were parked and dead letters are gone.

// restored warns of what was not there.
func restored(log *slog.Logger, what, name string, err error) error {
	if err == nil {
		log.Warn("somebody deleted it, it was made again", slog.String(what, name))
	}
	return wrap("make "+what+" "+name+" again", err)
}

// anew is where a stream begins that was there before. Whoever holds messages of the other may still ack them, and
// the server looks at nothing but their sequence: no stream has come as far as its age in microseconds.
func anew() uint64 { return uint64(time.Now().UnixMicro()) }

// Restore makes again what [Setup] has made and somebody has deleted since.
func (t *Topology) Restore(ctx context.Context, log *slog.Logger) error {
	_, err := t.JS.Stream(ctx, t.cfg.StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = restored(log, "stream", t.cfg.StreamName, t.createStream(ctx))
	}
	if err != nil {
		return wrap("look at stream "+t.cfg.StreamName, err)
	}
	for _, group := range t.cfg.groups() {
		for _, name := range consumers(group, t.cfg.JetStream.Partitions) {
			if _, err := t.JS.Consumer(ctx, t.cfg.StreamName, name); errors.Is(err, jetstream.ErrConsumerNotFound) {
				if err := restored(log, "consumer", name, t.createConsumers(ctx, group)); err != nil {
					return err
				}
			}
		}
	}
	if _, err := t.JS.KeyValue(ctx, t.bucket()); errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = t.createStarts(ctx)
		return restored(log, "bucket", t.bucket(), err)
	}
	return nil
}

// Restore makes the streams again that somebody has deleted since [OpenDeadLetters].
func (l *DeadLetters) Restore(ctx context.Context, log *slog.Logger) error {
	parked := l.cfg.parked()
	parked.FirstSeq = anew()
	return errors.Join(restoreStream(ctx, l.js, l.cfg.dead(), log), restoreStream(ctx, l.js, parked, log))
}

func restoreStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, log *slog.Logger) error {
	_, err := js.Stream(ctx, want.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return wrap("look at stream "+want.Name, err)
	}
	_, err = makeStream(ctx, js, want) // never an update: at its next start the server drops what lies before FirstSeq
	return restored(log, "stream", want.Name, err)
}

// Restore makes the streams and the consumer again that somebody has deleted since [OpenRetryQueue].
func (q *RetryQueue) Restore(ctx context.Context) error {
	if err := q.dead.Restore(ctx, q.cfg.Log); err != nil {
		return err
	}
	_, err := q.js.Consumer(ctx, retriesStream(q.cfg.Stream), q.cfg.Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = q.stream.CreateOrUpdateConsumer(ctx, q.cfg.consumer(q.subjects))
		return restored(q.cfg.Log, "consumer", q.cfg.Consumer, err)
	}
	return wrap("look at consumer "+q.cfg.Consumer, err)
}
