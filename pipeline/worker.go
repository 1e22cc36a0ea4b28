package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer/pipeline/nats"
)

// workerBatch is how many events a worker asks the server for at a time, so that the others find some too.
const workerBatch = 256

// work runs the observers on what comes through the stream, beside other workers of the same consumer.
func (p *Pipeline) work(ctx context.Context, bus *bus) error {
	queue, dead, err := p.openParked(ctx, bus)
	if err != nil {
		return endOf(ctx, err)
	}
	perf := p.plan.cfg.Performance
	driver, err := nats.NewDriver(nats.DriverConfig{Topology: bus.Topology, Log: p.log})
	if err != nil {
		return err
	}
	events, err := p.over(driver, perf.ChannelCapacity, workerBatch)
	if err != nil {
		return err
	}
	parked, err := p.over(queue, parkedAhead, parkedAhead)
	if err != nil {
		return err
	}
	dedup, err := p.openDedup(nil) // the configuration names a Redis: the bus has no store of its own
	if err != nil {
		return err
	}
	defer dedup.close()
	working := "working"
	p.worker.Store(&working)
	if !p.plan.cfg.Transport.RunBridge {
		p.health.Become("worker")
	}
	p.log.Info("working", slog.String("stream", bus.cfg.StreamName), slog.String("consumer", p.plan.cfg.Transport.NATS.ConsumerName))
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var beside sync.WaitGroup
	beside.Go(func() { p.report(running, &p.stats.events, bus.figures(queue, dead)) })
	beside.Go(func() { p.watchDeadLetters(running, dead.Waiting) })
	err = p.serve(ctx, wiring{
		sources:    []source{{nats.AllTopics, events}, {"retries", parked}},
		retryQueue: queue, deadLetters: dead, dedup: dedup,
	})
	cancel()
	beside.Wait()
	return err
}

// openParked opens the retry queue and the dead letters.
func (p *Pipeline) openParked(ctx context.Context, bus *bus) (queue *nats.RetryQueue, dead *nats.DeadLetters, err error) {
	cfg := p.plan.cfg.Transport.NATS
	if dead, err = p.openDead(ctx, bus); err != nil {
		return nil, nil, err
	}
	err = p.untilNATS(ctx, func(ctx context.Context) (err error) {
		queue, err = nats.OpenRetryQueue(ctx, bus.JS, nats.RetryQueueConfig{
			Stream: cfg.StreamName, Consumer: cfg.ConsumerName, Replicas: cfg.JetStream.Replicas,
			AckWait: time.Duration(cfg.JetStream.AckWaitSecs) * time.Second, MaxDeliver: cfg.JetStream.MaxDeliver, Log: p.log,
		})
		return err
	})
	return queue, dead, err
}

func (p *Pipeline) openDead(ctx context.Context, bus *bus) (dead *nats.DeadLetters, err error) {
	cfg := p.plan.cfg.Transport.NATS
	err = p.untilNATS(ctx, func(ctx context.Context) (err error) {
		dead, err = nats.OpenDeadLetters(ctx, bus.JS, nats.DeadLettersConfig{Stream: cfg.StreamName, Consumer: cfg.ConsumerName, Replicas: cfg.JetStream.Replicas})
		return err
	})
	return dead, err
}

// figures asks the server for the state of the stream and of what is parked.
func (b *bus) figures(queue *nats.RetryQueue, dead *nats.DeadLetters) func(context.Context) (figures, error) {
	return func(ctx context.Context) (f figures, err error) {
		s, err := b.State(ctx)
		f.backlog = int64(s.Events)
		if !s.Oldest.IsZero() {
			f.age = time.Since(s.Oldest)
		}
		letters, _, letterErr := dead.Waiting(ctx)
		f.dead = int64(letters)
		var parkedErr error
		f.parked, f.parkedAge, parkedErr = queue.Waiting(ctx)
		lag, lagErr := b.Lag(ctx)
		f.consumer = &lag
		return f, errors.Join(err, letterErr, parkedErr, lagErr)
	}
}
