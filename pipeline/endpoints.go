package pipeline

import (
	"context"
	"maps"
	"slices"

	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// endpointName names what an action reaches; "" for one that does not say.
func endpointName(a action) string {
	if e, ok := a.run.(interface{ Endpoint() string }); ok {
		return e.Endpoint()
	}
	return ""
}

// openEndpoints makes one endpoint, with its breaker, of all actions that reach the same.
func (p *Pipeline) openEndpoints() {
	p.endpoints = map[string]*middleware.Endpoint{}
	for _, o := range p.plan.observers {
		for _, a := range o.actions {
			name := endpointName(a)
			if name == "" || p.endpoints[name] != nil {
				continue
			}
			open := p.metrics.BreakerOpen.WithLabelValues(name)
			p.endpoints[name] = middleware.NewEndpoint(name, func(is bool) {
				if is {
					open.Set(1)
					p.log.Warn("endpoint fails again and again: what is for it waits in the retry queue", "endpoint", name)
					return
				}
				open.Set(0)
				p.log.Info("endpoint works again", "endpoint", name)
			})
		}
	}
}

// endpointOf tells dispatch what an action reaches. One that does not say shares its part of the slots with no other.
func (p *Pipeline) endpointOf(observer, name string) (string, func() bool) {
	for _, o := range p.plan.observers {
		for _, a := range o.actions {
			if o.Name != observer || a.Name != name {
				continue
			}
			if e := p.endpoints[endpointName(a)]; e != nil {
				return e.Name(), e.Down
			}
			if a.Type == "log" {
				return "", nil
			}
		}
	}
	return dispatch.Topic(observer, name), nil
}

// endpointStatus lists the endpoints by name.
func (p *Pipeline) endpointStatus() []EndpointStatus {
	list := make([]EndpointStatus, 0, len(p.endpoints))
	for _, name := range slices.Sorted(maps.Keys(p.endpoints)) {
		list = append(list, EndpointStatus{name, p.endpoints[name].State()})
	}
	return list
}

func (p *Pipeline) countSpilled(spill func(context.Context, []dispatch.Spilled) error) func(context.Context, []dispatch.Spilled) error {
	return func(ctx context.Context, list []dispatch.Spilled) error {
		err := spill(ctx, list)
		if err == nil {
			p.metrics.Spilled.Add(float64(len(list)))
		}
		return err
	}
}
