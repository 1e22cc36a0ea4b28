package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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
	conn *natsconn.Conn
	cfg  nats.Config
}

// runNATS bridges, works, or both, until ctx ends.
func (p *Pipeline) runNATS(ctx context.Context) error {
	p.health.Fail(natsCheck, "no connection yet", natsFix)
	bus, err := p.openBus(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	defer bus.conn.Close()
	p.health.OK(natsCheck)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { p.probe(running, natsCheck, natsFix, bus.ask); return nil })
	group.Go(func() error { return p.watchRedis(running) })
	if p.plan.cfg.Transport.RunBridge {
		group.Go(func() error { return p.runBridge(running, bus) })
	}
	if p.plan.cfg.Transport.RunExecutors {
		group.Go(func() error { return p.work(running, bus) })
	}
	return endOf(ctx, group.Wait())
}

// openBus connects and sees to it that the stream is there. It waits, and says so in /readyz, for a server that does not
// answer.
func (p *Pipeline) openBus(ctx context.Context) (*bus, error) {
	cfg := p.plan.cfg.Transport.NATS
	conn, err := natsconn.Open(ctx, cfg.Config)
	if err != nil {
		return nil, err
	}
	b := &bus{conn: conn, cfg: cfg}
	err = p.untilNATS(ctx, func(ctx context.Context) (err error) {
		b.Topology, err = b.setup(ctx)
		return err
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return b, nil
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

// ask reports whether the stream answers. One that somebody deleted is made again.
func (b *bus) ask(ctx context.Context) error {
	if err := b.conn.Down(); err != nil {
		return err
	}
	_, err := b.State(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.setup(ctx)
	}
	return err
}

// state returns how far the stream is filled, and the first sequence that is not settled.
func (b *bus) state(ctx context.Context) (m postgres.StreamMark, first uint64, err error) {
	s, err := b.State(ctx)
	return postgres.StreamMark{Created: s.Created, Sequence: s.Last}, s.First, err
}
