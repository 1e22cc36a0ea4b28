package dispatch_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/dispatch"
)

// BenchmarkDispatch sends events through actions that do nothing, to so many endpoints, of which some hang.
func BenchmarkDispatch(b *testing.B) {
	for _, tc := range []struct{ endpoints, hanging int }{{1, 0}, {8, 0}, {8, 3}} {
		b.Run(fmt.Sprintf("endpoints=%d,hanging=%d", tc.endpoints, tc.hanging), func(b *testing.B) {
			release := make(chan struct{})
			cfg := dispatch.Config{
				MaxConcurrency: 64,
				Endpoint:       func(observer, _ string) (string, func() bool) { return observer, nil },
				Spill:          func(context.Context, []dispatch.Spilled) error { return nil },
				DeadLetter:     func(context.Context, *event.Delivery) error { return nil },
			}
			for i := range tc.endpoints {
				name := strconv.Itoa(i)
				cfg.Observers = append(cfg.Observers, dispatch.Observer{Name: name, Entity: name, Actions: []string{"x"}})
			}
			d, err := dispatch.New(cfg)
			require.NoError(b, err)
			var handlers sync.WaitGroup
			for i := range tc.endpoints {
				msgs, err := d.Subscribe(b.Context(), dispatch.Topic(strconv.Itoa(i), "x"))
				require.NoError(b, err)
				handle := d.Settle(func(*message.Message) ([]*message.Message, error) {
					if i < tc.hanging {
						<-release
					}
					return nil, nil
				})
				handlers.Go(func() {
					for msg := range msgs {
						handlers.Go(func() { _, _ = handle(msg) })
					}
				})
			}
			up := make(chan *message.Message)
			handlers.Go(func() { d.Run(context.Background(), up) })
			send := func(endpoint, id int) {
				up <- msgOf(&event.Event{ID: strconv.Itoa(id), Type: event.Update, Entity: strconv.Itoa(endpoint), EntityID: strconv.Itoa(id), Data: []byte(`{}`), Timestamp: time.Unix(0, 0)})
			}
			for i := range 40 * tc.hanging { // less than would be spilled
				send(i%tc.hanging, i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				send(tc.hanging+i%(tc.endpoints-tc.hanging), i)
			}
			b.StopTimer()
			close(release)
			close(up)
			handlers.Wait()
		})
	}
}
