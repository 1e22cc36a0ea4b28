package middleware_test

import (
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// The attempts of one handler, by result. The registry is the one that the program serves at /metrics.
func ExampleMetrics() {
	registry := prometheus.NewRegistry()
	outcomes := []error{nil, nil, event.ErrParked, errors.New("the store is away")}
	count := middleware.Metrics(middleware.NewCollectors(registry), "shipping", "label", "printer", middleware.FailureDLQ)
	handler := count(func(*message.Message) ([]*message.Message, error) {
		err := outcomes[0]
		outcomes = outcomes[1:]
		return nil, err
	})
	for range len(outcomes) {
		if _, err := handler(message.NewMessage("1", nil)); err != nil {
			fmt.Println(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			if n := series.GetCounter().GetValue(); family.GetName() == "fraiseql_observer_actions_total" && n > 0 {
				fmt.Println(series.GetLabel()[2].GetValue(), n)
			}
		}
	}
	// Output:
	// parked
	// the store is away
	// error 1
	// parked 1
	// success 2
}
