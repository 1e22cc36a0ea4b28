package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
	"github.com/fraiseql/observer/pipeline/window"
)

// routerClose is how long the router waits, after dispatch has drained, for an action that ignores that its time is up.
const routerClose = time.Second

// source is one stream of messages: events, or parked deliveries that are due.
type source struct {
	topic      string
	subscriber *window.Subscriber
}

// wiring is what a topology gives to serve.
type wiring struct {
	sources     []source
	retryQueue  retryQueue
	deadLetters middleware.DeadLetters
	held        func() bool // nil: always
	dedup       *dedup      // nil: none
}

// retryQueue is the retry queue of a transport, which is one of the sources as well.
type retryQueue interface {
	middleware.RetryQueue
	// Spill is what dispatch.Config asks for.
	Spill(ctx context.Context, list []dispatch.Spilled) error
	// Lanes lists those of which deliveries are parked.
	Lanes(ctx context.Context) ([]dispatch.Lane, error)
	// Avoid sets what lists the topics for which nothing is to be handed out for now. Nothing was fetched before.
	Avoid(busy func() []string)
}

// serve connects the sources to the actions and runs until ctx ends, or a source does, and all that was begun has
// drained. Draining goes against the flow: sources stop fetching, dispatch finishes its lanes, then the router ends.
func (p *Pipeline) serve(ctx context.Context, w wiring) error {
	dispatcher, err := p.newDispatcher(ctx, w)
	if err != nil {
		return err
	}
	w.retryQueue.Avoid(dispatcher.Busy)
	p.dispatcher.Store(dispatcher)
	defer dispatcher.CountSkipped()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	routed, err := p.startRouter(ctx, dispatcher, w)
	if err != nil {
		return err
	}
	upstreams, err := subscribe(ctx, w.sources)
	if err == nil {
		err = p.watch(cancel, w.sources, func() { dispatcher.Run(ctx, upstreams...) })
	} else {
		cancel()
		dispatcher.Run(ctx, upstreams...)
	}
	return errors.Join(err, <-routed)
}

// subscribe opens every source; after an error it returns what it opened before.
func subscribe(ctx context.Context, sources []source) ([]<-chan *message.Message, error) {
	var upstreams []<-chan *message.Message
	for _, s := range sources {
		up, err := s.subscriber.Subscribe(ctx, s.topic)
		if err != nil {
			return upstreams, fmt.Errorf("subscribe to %s: %w", s.topic, err)
		}
		upstreams = append(upstreams, up)
	}
	return upstreams, nil
}

// watch runs until every source has ended; the first that ends by itself ends the others.
func (p *Pipeline) watch(cancel context.CancelFunc, sources []source, run func()) error {
	var all sync.WaitGroup
	errs := make([]error, len(sources))
	for i, s := range sources {
		all.Go(func() {
			errs[i] = s.subscriber.Wait()
			cancel()
		})
	}
	run()
	all.Wait()
	return errors.Join(errs...)
}

func (p *Pipeline) newDispatcher(ctx context.Context, w wiring) (*dispatch.Dispatcher, error) {
	perf := p.plan.cfg.Performance
	cfg := dispatch.Config{
		MaxConcurrency: perf.MaxConcurrency, MaxConcurrentActions: perf.MaxConcurrentActions,
		Held:     w.held,
		Endpoint: p.endpointOf, Spill: p.countSpilled(w.retryQueue.Spill), Lanes: p.parkedLanes(ctx, w.retryQueue),
		DeadLetter: p.countDeadLetters(w.deadLetters).Put,
		Settled:    func(e *event.Event) { p.metrics.EventLatency.Observe(time.Since(e.Timestamp).Seconds()) },
		Log:        p.log,
	}
	for _, o := range p.plan.observers {
		counter := p.conditionCounter(o.Name)
		route := dispatch.Observer{
			Name: o.Name, Entity: o.Entity, Type: o.EventType, Unordered: o.Order == "none", Sequential: !perf.EnableConcurrent,
			Matched: counter.count, Skipped: counter.skipped,
		}
		if o.condition != nil {
			route.Match = o.condition.Match
		}
		if path, text, ok := o.condition.Requires(); ok {
			route.Requires = &dispatch.Requirement{Path: path, Text: text}
		}
		for _, a := range o.actions {
			route.Actions = append(route.Actions, a.Name)
		}
		cfg.Observers = append(cfg.Observers, route)
	}
	return dispatch.New(cfg)
}

// parkedLanes asks until it has an answer: without it, what comes now could overtake what is parked. When ctx ends first,
// nothing comes any more.
func (p *Pipeline) parkedLanes(ctx context.Context, queue retryQueue) []dispatch.Lane {
	trouble := outage.New(p.log, "waiting for the retry queue", "the retry queue answers")
	for {
		lanes, err := queue.Lanes(ctx)
		if err == nil {
			trouble.OK()
			return lanes
		}
		if ctx.Err() != nil {
			return nil
		}
		trouble.Failed(err)
		pause(ctx, retryPause)
	}
}

// startRouter registers one handler an action and starts the router. It ends by itself when dispatch closes its topics.
func (p *Pipeline) startRouter(ctx context.Context, d *dispatch.Dispatcher, w wiring) (<-chan error, error) {
	// The router has little to say: its handlers are ours, and report what matters themselves.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: routerClose}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("build router: %w", err)
	}
	handlers := 0
	for _, o := range p.plan.observers {
		for _, a := range o.actions {
			topic := dispatch.Topic(o.Name, a.Name)
			handler := router.AddConsumerHandler(topic, topic, d, p.handler(a))
			handler.AddMiddleware(d.Settle)
			handler.AddMiddleware(p.chain(o, a, w, d).Middlewares()...)
			handlers++
		}
	}
	ended := make(chan error, 1)
	if handlers == 0 {
		ended <- nil
		return ended, nil
	}
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	<-router.Running()
	return ended, nil
}

func (p *Pipeline) handler(a action) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		err := a.run.Run(msg.Context(), event.FromContext(msg.Context()))
		if err == nil {
			p.delivered.Add(1)
		}
		return err
	}
}

func (p *Pipeline) chain(o observer, a action, w wiring, d *dispatch.Dispatcher) middleware.Chain {
	team := make([]message.HandlerMiddleware, 0, len(p.plan.cfg.Pipeline.Middleware)+len(o.Middleware)+len(a.Middleware))
	for _, names := range [][]string{p.plan.cfg.Pipeline.Middleware, o.Middleware, a.Middleware} {
		for _, name := range names {
			team = append(team, p.middleware[name])
		}
	}
	return middleware.Chain{
		Observer: o.Name, Action: a.Name, Kind: a.Type,
		OnFailure: middleware.OnFailure(o.OnFailure), Retry: o.Retry, Hold: o.OnRetry == "hold", Timeout: p.timeout(a), Team: team, Held: w.held, Endpoint: p.endpoints[endpointName(a)],
		Dedup: w.dedup.around(p.attempt(a)), CacheKey: p.cacheKey(a), Results: p.results,
		RetryQueue: announced{w.retryQueue, d}, DeadLetters: p.countDeadLetters(w.deadLetters), Metrics: p.metrics, Tracer: p.tracer, Log: p.log,
	}
}

// attempt is how long one attempt of an action takes at most.
func (p *Pipeline) attempt(a action) time.Duration {
	if bounded, ok := a.run.(interface{ Timeout() time.Duration }); ok {
		return bounded.Timeout()
	}
	return p.plan.attemptTimeout()
}

// timeout is 0 for an action that keeps a time of its own.
func (p *Pipeline) timeout(a action) time.Duration {
	if _, bounded := a.run.(interface{ Timeout() time.Duration }); bounded {
		return 0
	}
	return p.plan.attemptTimeout()
}

// announced tells dispatch what was parked, so that the later ones of its lane follow.
type announced struct {
	middleware.RetryQueue
	dispatcher *dispatch.Dispatcher
}

// Park implements middleware.RetryQueue.
func (a announced) Park(ctx context.Context, d *event.Delivery, notBefore time.Time) error {
	err := a.RetryQueue.Park(ctx, d, notBefore)
	if err == nil {
		a.dispatcher.Parked(d, notBefore)
	}
	return err
}

type countedDeadLetters struct {
	middleware.DeadLetters
	count func()
}

func (p *Pipeline) countDeadLetters(store middleware.DeadLetters) middleware.DeadLetters {
	return countedDeadLetters{store, func() {
		p.deadLetters.Add(1)
		p.metrics.DeadLetters.Inc()
	}}
}

func (c countedDeadLetters) Put(ctx context.Context, d *event.Delivery) error {
	err := c.DeadLetters.Put(ctx, d)
	if err == nil {
		c.count()
	}
	return err
}
