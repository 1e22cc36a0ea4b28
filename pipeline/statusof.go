package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Status returns the state of the pipeline. It asks no server, so that it answers while one is away.
func (p *Pipeline) Status() Status {
	s := Status{
		Version: p.version, Transport: p.plan.cfg.Transport.Transport, StartedAt: p.started, UptimeSeconds: time.Since(p.started).Seconds(), Roles: p.roles(),
	}
	s.Ready, s.Status, s.Reasons = p.health.State()
	if p.plan.cfg.Transport.RunBridge {
		s.Bridge = p.bridgeStatus()
	}
	if p.executes() {
		p.executorStatus(&s)
	}
	return s
}

// executes reports whether this process runs observers, or would if it led.
func (p *Pipeline) executes() bool { return p.plan.cfg.Transport.Executes() }

func (p *Pipeline) roles() []Role {
	t := &p.plan.cfg.Transport
	turn, work := stateOr(p.turn.Load()), stateOr(p.worker.Load())
	switch t.Transport {
	case "redis":
		return []Role{{"worker", t.Redis.ConsumerGroup, work}}
	case "postgres":
		return []Role{{"listener", t.Postgres.ListenerName, turn}}
	}
	var roles []Role
	if t.RunBridge {
		roles = append(roles, Role{"bridge", t.Bridge.TransportName, turn})
	}
	if t.RunExecutors {
		roles = append(roles, Role{"worker", t.NATS.ConsumerName, work})
	}
	return roles
}

func stateOr(state *string) string {
	if state == nil {
		return "starting"
	}
	return *state
}

func (p *Pipeline) bridgeStatus() *BridgeStatus {
	t := &p.plan.cfg.Transport
	b := &BridgeStatus{TransportName: t.Bridge.TransportName, State: stateOr(p.turn.Load()), Stream: t.NATS.StreamName}
	if f := p.stats.bridge.Load(); f != nil {
		b.MeasuredAt = &f.at
		b.ChangeLog = &SourceStatus{"change_log", f.backlog, f.age.Seconds()}
		if f.stream != nil {
			b.PublishedSequence, b.ConfirmedSequence = &f.stream.published, &f.stream.confirmed
		}
	}
	return b
}

func (p *Pipeline) executorStatus(s *Status) {
	if f := p.stats.events.Load(); f != nil {
		s.MeasuredAt = &f.at
		s.Source = &SourceStatus{"change_log", f.backlog, f.age.Seconds()}
		s.Parked = &ParkedStatus{f.parked, f.parkedAge.Seconds()}
		s.DeadLetters = &DeadLettersStatus{N: f.dead}
		if age := time.Duration(p.stats.deadAge.Load()).Seconds(); f.dead > 0 && age > 0 {
			s.DeadLetters.OldestAgeSeconds = &age
		}
		if f.consumer != nil {
			s.Source.From, s.Consumer = "stream", consumerStatus(f)
		}
	}
	delivered := p.delivered.Load()
	s.Delivered = &delivered
	s.Observers, s.Endpoints = p.observerStatus(), p.endpointStatus()
	if p.plan.cfg.Performance.EnableDedup {
		d := &p.metrics.Dedup
		s.Dedup = &DedupStatus{d.Checks.Load(), d.Duplicates.Load(), d.Errors.Load(), d.HitRate()}
	}
	if p.plan.cfg.Performance.EnableCaching {
		s.Cache = &CacheStatus{p.cache.Hits(), p.cache.Misses(), p.cache.HitRate()}
	}
}

func consumerStatus(f *figures) *ConsumerStatus {
	l := f.consumer
	return &ConsumerStatus{l.Stream, l.Consumer, l.Pending, l.AckPending, f.partitions}
}

func (p *Pipeline) observerStatus() []ObserverStatus {
	d := p.dispatcher.Load()
	if d != nil {
		d.CountSkipped()
	}
	list := make([]ObserverStatus, 0, len(p.plan.cfg.Observers))
	for _, o := range p.plan.cfg.Observers {
		s := ObserverStatus{Name: o.Name, Entity: o.Entity, EventType: string(o.EventType), Enabled: o.Enabled}
		if o.Enabled && d != nil {
			c := p.conditionCounter(o.Name)
			s.Matched, s.NotMatched, s.ConditionErrors = valueOf(c.matched), valueOf(c.notMatched), valueOf(c.failed)
		}
		list = append(list, s)
	}
	return list
}

func valueOf(c prometheus.Counter) *int64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return nil // unknown
	}
	n := int64(m.GetCounter().GetValue())
	return &n
}
