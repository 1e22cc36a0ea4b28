package pipeline

import (
	"context"
	"time"

	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/nats"
)

const (
	leaseCheck = "partitions"
	leaseFix   = "check that the NATS server answers; the log tells more"
	// forgetEvery is how soon it is seen that other workers have run what was parked of an entity, forgetPart the part of the
	// time that may be spent on that.
	forgetEvery = time.Second
	forgetPart  = 20
)

// workPartitions is one worker of a consumer with partitions. A term ends with ctx, or when the other workers have taken this
// one for dead.
func (p *Pipeline) workPartitions(ctx context.Context, bus *bus) error {
	for ctx.Err() == nil {
		if err := p.partitionsTerm(ctx, bus); err != nil {
			return endOf(ctx, err)
		}
	}
	return nil
}

func (p *Pipeline) partitionsTerm(ctx context.Context, bus *bus) error {
	queue, dead, err := p.openParked(ctx, bus)
	if err != nil {
		return err
	}
	var group *nats.Group
	err = p.untilNATS(ctx, func(ctx context.Context) (err error) {
		group, err = nats.OpenGroup(ctx, nats.GroupConfig{Topology: bus.Topology, Tracked: true, Taken: p.learnParked(queue), Log: p.log})
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ended by cancel
		select {
		case <-group.Lost():
			cancel()
		case <-ctx.Done():
		}
	}()
	return p.workOn(ctx, bus, queue, carrier{events: group, queue: queue, dead: dead, ahead: bus.ahead, lag: bus.Lag, group: group})
}

// learnParked tells dispatch, before the first event of a partition comes, what the worker before has parked of it.
func (p *Pipeline) learnParked(queue retryQueue) func(context.Context) error {
	return func(ctx context.Context) error {
		lanes, err := queue.Lanes(ctx)
		if err == nil {
			p.dispatcher.Load().Learn(lanes)
		}
		return err
	}
}

// forgetParked lets dispatch know what other workers have run of what was parked: parked deliveries are anybody's.
func (p *Pipeline) forgetParked(ctx context.Context, stored func(context.Context) ([]dispatch.Lane, error)) {
	trouble := outage.New(p.log, "cannot see what is parked: what comes after it waits", "what is parked can be seen")
	for wait := forgetEvery; pause(ctx, wait); {
		begun := time.Now()
		d := p.dispatcher.Load()
		if d == nil {
			continue
		}
		if err := d.Forget(ctx, stored); err == nil {
			trouble.OK()
		} else if ctx.Err() == nil {
			trouble.Failed(err)
		}
		wait = max(forgetEvery, forgetPart*time.Since(begun))
	}
}
