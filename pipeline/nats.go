package pipeline

import (
	"context"
	"fmt"
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

	// busAhead is how many events may be out over all workers of a consumer; each limits itself by channel_capacity.
	busAhead = 100_000
)

// bus is the stream that bridges fill and workers empty.
type bus struct {
	*nats.Topology
	conn *natsconn.Conn
	name string
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
	trouble := outage.New(p.log, "waiting for nats", "nats answers")
	for {
		patience, cancel := context.WithTimeout(ctx, natsPatience)
		topology, err := nats.Setup(patience, conn.Conn, conn, cfg, busAhead)
		cancel()
		if err == nil {
			trouble.OK()
			return &bus{topology, conn, cfg.StreamName}, nil
		}
		if nats.IsFatal(err) || ctx.Err() != nil {
			conn.Close()
			return nil, err
		}
		p.health.Fail(natsCheck, err.Error(), natsFix)
		trouble.Failed(err)
		pause(ctx, retryPause)
	}
}

// natsPatience is the time for a server to make the streams, which takes a moment in a cluster.
const natsPatience = 15 * time.Second

// ask reports whether the stream answers.
func (b *bus) ask(ctx context.Context) error {
	if err := b.conn.Down(); err != nil {
		return err
	}
	_, err := b.State(ctx)
	return err
}

// state returns how far the stream is filled, and the first sequence that is not settled.
func (b *bus) state(ctx context.Context) (m postgres.StreamMark, first uint64, err error) {
	s, err := b.State(ctx)
	return postgres.StreamMark{Created: s.Created, Sequence: s.Last}, s.First, err
}

// renew makes the streams again that somebody deleted.
func (p *Pipeline) renew(ctx context.Context, b *bus) error {
	if _, err := nats.Setup(ctx, b.conn.Conn, b.conn, p.plan.cfg.Transport.NATS, busAhead); err != nil {
		return fmt.Errorf("create the stream again: %w", err)
	}
	return nil
}
