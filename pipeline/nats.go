package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fraiseql/observer/internal/natsconn"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/pipeline/nats"
	"github.com/fraiseql/observer/pipeline/postgres"
)

const (
	natsCheck = "nats"
	natsFix   = "check that the server runs with JetStream and that transport.nats.url reaches it"
)

// bus is the stream that bridges fill and workers empty.
type bus struct {
	*nats.Topology
	conn   *natsconn.Conn
	server *nats.Embedded // nil: it is another process
	cfg    nats.Config
	log    *slog.Logger
}

// runNATS bridges, works, or both, until ctx ends.
func (p *Pipeline) runNATS(ctx context.Context) error {
	p.health.Fail(natsCheck, "no connection yet", natsFix)
	bus, err := p.openBus(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	p.health.OK(natsCheck)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { p.probe(running, natsCheck, natsFix, bus.ask); return nil })
	group.Go(func() error { return p.watchRedis(running) })
	if p.plan.cfg.Transport.RunBridge {
		group.Go(func() error { return p.runBridge(running, bus) })
	}
	if p.plan.cfg.Transport.RunExecutors {
		group.Go(func() error { return p.workNATS(running, bus) })
	}
	return errors.Join(endOf(ctx, group.Wait()), bus.close())
}

// openBus connects and sees to it that the stream is there. It waits, and says so in /readyz, for a server that does not
// answer.
func (p *Pipeline) openBus(ctx context.Context) (*bus, error) {
	b := &bus{cfg: p.plan.cfg.Transport.NATS, log: p.log}
	if err := b.connect(ctx, p.log); err != nil {
		return nil, err
	}
	err := p.untilNATS(ctx, func(ctx context.Context) (err error) {
		b.Topology, err = b.setup(ctx)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// connect opens the connection, to a server inside this process where the configuration asks for one.
func (b *bus) connect(ctx context.Context, log *slog.Logger) (err error) {
	if !b.cfg.Embedded {
		b.conn, err = natsconn.Open(ctx, b.cfg.Config)
		return err
	}
	if b.server, err = nats.StartEmbedded(nats.EmbeddedConfig{StoreDir: b.cfg.StoreDir, Log: log}); err != nil {
		return err
	}
	if b.conn, err = b.server.Connect(ctx); err != nil {
		return errors.Join(err, b.server.Close())
	}
	return nil
}

// close ends the connection, and the server if it is ours.
func (b *bus) close() error {
	b.conn.Close()
	if b.server == nil {
		return nil
	}
	return b.server.Close()
}

// untilNATS tries until the server has done something, or refuses it for good. Meanwhile /readyz says why.
func (p *Pipeline) untilNATS(ctx context.Context, do func(context.Context) error) error {
	trouble := outage.New(p.log, "waiting for nats", "nats answers")
	for {
		patience, cancel := context.WithTimeout(ctx, natsPatience)
		err := do(patience)
		cancel()
		if err == nil {
			trouble.OK()
			return nil
		}
		if nats.IsFatal(err) || ctx.Err() != nil {
			return err
		}
		p.health.Fail(natsCheck, err.Error(), natsFix)
		trouble.Failed(err)
		pause(ctx, retryPause)
	}
}

// natsPatience is the time for a server to make the streams, which takes a moment in a cluster.
const natsPatience = 15 * time.Second

func (b *bus) setup(ctx context.Context) (*nats.Topology, error) {
	return nats.Setup(ctx, b.conn.Conn, b.conn, b.cfg, nats.Ahead)
}

// ask reports whether the stream answers. What somebody deleted is made again.
func (b *bus) ask(ctx context.Context) error {
	if err := b.conn.Down(); err != nil {
		return err
	}
	return b.Restore(ctx, b.log)
}

// keep makes again what somebody deletes, until ctx ends.
func (b *bus) keep(ctx context.Context, restore func(context.Context) error) {
	trouble := outage.New(b.log, "streams cannot be looked after, will try again", "streams are looked after again")
	for pause(ctx, probeEvery) {
		if b.conn.Down() != nil { // which is said elsewhere
			continue
		}
		patience, cancel := context.WithTimeout(ctx, natsPatience)
		err := restore(patience)
		cancel()
		switch {
		case err == nil:
			trouble.OK()
		case ctx.Err() == nil:
			trouble.Failed(err)
		}
	}
}

// state returns how far the stream is filled, and the first sequence that is not settled.
func (b *bus) state(ctx context.Context) (m postgres.StreamMark, first uint64, err error) {
	s, err := b.State(ctx)
	return postgres.StreamMark{Created: s.Created, Sequence: s.Last}, s.First, err
}

// ahead returns how many events are in the stream, and for how long the first of them has been there.
func (b *bus) ahead(ctx context.Context) (n int64, age time.Duration, err error) {
	s, err := b.State(ctx)
	if !s.Oldest.IsZero() {
		age = time.Since(s.Oldest)
	}
	return int64(min(s.Events, math.MaxInt64)), age, err
}

// workNATS is one worker of a consumer.
func (p *Pipeline) workNATS(ctx context.Context, bus *bus) error {
	if bus.cfg.JetStream.Partitions > 0 {
		return p.workPartitions(ctx, bus)
	}
	queue, dead, err := p.openParked(ctx, bus)
	if err != nil {
		return endOf(ctx, err)
	}
	driver, err := nats.NewDriver(nats.DriverConfig{Topology: bus.Topology, Tracked: true, Log: p.log})
	if err != nil {
		return err
	}
	return p.workOn(ctx, bus, queue, carrier{events: driver, queue: queue, dead: dead, ahead: bus.ahead, lag: bus.Lag})
}

// workOn works, and makes again meanwhile what somebody deletes.
func (p *Pipeline) workOn(ctx context.Context, bus *bus, queue *nats.RetryQueue, c carrier) error {
	if !p.plan.cfg.Transport.RunBridge {
		p.health.Become("worker")
	}
	p.log.Info("working", slog.String("stream", bus.cfg.StreamName), slog.String("consumer", bus.cfg.ConsumerName),
		slog.Int("partitions", bus.cfg.JetStream.Partitions))
	keeping, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { bus.keep(keeping, queue.Restore) })
	defer beside.Wait()
	defer stop()
	return p.work(ctx, c)
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
