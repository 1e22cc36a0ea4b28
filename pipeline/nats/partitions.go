package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// partitionAhead is how many events of a partition may be out at the same time: what its next owner has to have in
	// hand before it hands out the first.
	partitionAhead = 1024
	// consumerMakers bounds how many consumers are made at the same time.
	consumerMakers = 16
)

// partition creates the durable consumer of a group for a partition, or changes it to what the configuration says.
func (t *Topology) partition(ctx context.Context, group string, partition int) (jetstream.Consumer, error) {
	return t.consumer(ctx, consumers(group, t.cfg.JetStream.Partitions)[partition], t.cfg.partitionFilter(partition), partitionAhead)
}

// createConsumers creates those that the workers of a group read.
func (t *Topology) createConsumers(ctx context.Context, group string) error {
	if t.cfg.JetStream.Partitions == 0 {
		_, err := t.Consumer(ctx, group, AllTopics)
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(consumerMakers)
	for i := range t.cfg.JetStream.Partitions {
		g.Go(func() error {
			_, err := t.partition(ctx, group, i)
			return err
		})
	}
	return g.Wait()
}

// samePartitions reports an error when the stream was given another number of partitions.
func (t *Topology) samePartitions(ctx context.Context) error {
	stream, err := t.JS.Stream(ctx, t.cfg.StreamName)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if n, ours := t.cfg.partitionsIn(info.Config.Subjects); ours && n != t.cfg.JetStream.Partitions {
		return t.otherPartitions(n, info.State.Msgs)
	}
	return nil
}

func (t *Topology) otherPartitions(has int, events uint64) error {
	return fmt.Errorf("%w: it has %d partitions and %d events, and transport.nats.jetstream.partitions is %d (all bridges and workers need the same number; "+
		"to change it stop the bridges, let the workers empty the stream with %d, stop them, and start all with %d: an empty stream is changed)",
		ErrConflict, has, events, t.cfg.JetStream.Partitions, has, t.cfg.JetStream.Partitions)
}

// repartition gives the stream, which has another number of partitions, that of the configuration. Events that are in it
// would lose their order, so it must be empty, and no publisher of the old number may add to it.
func (t *Topology) repartition(ctx context.Context, info *jetstream.StreamInfo, has int) (jetstream.StreamConfig, error) {
	if info.State.Msgs > 0 {
		return info.Config, t.otherPartitions(has, info.State.Msgs)
	}
	changed := info.Config
	changed.Subjects = []string{t.cfg.streamSubject()}
	stream, err := t.JS.UpdateStream(ctx, changed)
	if err != nil {
		return changed, err
	}
	if late, err := t.latecomers(ctx, stream, has); err != nil || late > 0 {
		_, undone := t.JS.UpdateStream(ctx, info.Config)
		return info.Config, errors.Join(err, t.otherPartitions(has, late), undone)
	}
	return changed, t.deleteConsumers(ctx, stream, has)
}

// latecomers counts what a publisher of the old number added at the last moment: from now on the server refuses it. Where
// there are no partitions any more, nothing is in the wrong one.
func (t *Topology) latecomers(ctx context.Context, stream jetstream.Stream, had int) (uint64, error) {
	if t.cfg.JetStream.Partitions == 0 {
		return 0, nil
	}
	filter := t.cfg.SubjectPrefix + ".*.*"
	if had > 0 {
		filter += fmt.Sprintf(".%d.*", had)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, err
	}
	return uint64(len(info.State.Subjects)), nil
}

// deleteConsumers deletes those that read a number of partitions that the stream no longer has.
func (t *Topology) deleteConsumers(ctx context.Context, stream jetstream.Stream, partitions int) error {
	var old []string
	for _, group := range t.cfg.groups() {
		old = append(old, consumers(group, partitions)...)
	}
	list := stream.ConsumerNames(ctx)
	var found []string
	for name := range list.Name() {
		if slices.Contains(old, name) {
			found = append(found, name)
		}
	}
	if err := list.Err(); err != nil {
		return err
	}
	for _, name := range found {
		if err := stream.DeleteConsumer(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
