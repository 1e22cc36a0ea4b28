package faults

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const (
	producerCount    = 4
	producerEntities = 40 // of each: nobody else changes them, so that the stream has their order
)

// producers are a Watermill program that adds events to a Redis stream until it is stopped. What Redis did not confirm they
// add again, with the same id: it may be there twice.
type producers struct {
	stream  string
	journal *journal
	pause   time.Duration // mean between two events of one producer

	stopping context.CancelFunc
	group    sync.WaitGroup

	mu    sync.Mutex
	twice map[string]bool // ids of events that were added again
}

// quietRedis keeps go-redis from printing what it also returns as errors. It has one logger for all its clients.
var quietRedis = sync.OnceFunc(func() { goredis.SetLogger(&logging.VoidLogger{}) })

func startProducers(t *testing.T, url string, p *producers) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.stopping, p.twice = cancel, map[string]bool{}
	options, err := goredis.ParseURL(url)
	require.NoError(t, err)
	quietRedis()
	options.ReadTimeout, options.MaxRetries, options.ContextTimeoutEnabled = time.Second, -1, true
	client := goredis.NewClient(options)
	publisher, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: client}, nil)
	require.NoError(t, err)
	for i := range producerCount {
		random := newRandom(t.Name(), uint64(i))
		p.group.Go(func() {
			revs := make([]int64, producerEntities)
			for serial := 0; ctx.Err() == nil; serial++ {
				n := random.IntN(producerEntities)
				revs[n]++
				c := change{fmt.Sprintf("Order/%d-%d", i, n), revs[n]}
				p.add(ctx, publisher, c, fmt.Sprintf("producer-%d-%d", i, serial))
				wait(ctx, time.Duration(2*random.Float64()*float64(p.pause)))
			}
		})
	}
	t.Cleanup(func() {
		p.stop()
		require.NoError(t, publisher.Close()) // and the client
	})
}

// add tries until Redis has confirmed one event.
func (p *producers) add(ctx context.Context, publisher message.Publisher, c change, mark string) {
	id := uuid.NewString()
	body := fmt.Appendf(nil, `{"id": %q, "entity_type": "Order", "entity_id": %q, "event_type": "UPDATE", "data": {"rev": %d, "tx": %q}}`,
		id, c.entity[len("Order/"):], c.rev, mark)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*within)
	defer cancel()
	for end.Err() == nil {
		if publisher.Publish(p.stream, message.NewMessageWithContext(end, id, body)) == nil {
			p.journal.commit(mark, []change{c})
			return
		}
		p.mu.Lock()
		p.twice[id] = true
		p.mu.Unlock()
		wait(end, 50*time.Millisecond)
	}
}

// stop lets each producer end the event that it is at.
func (p *producers) stop() {
	if p.stopping != nil {
		p.stopping()
	}
	p.group.Wait()
}

// excuse adds what may come twice, since it was added twice.
func (p *producers) excuse(excused map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(excused, p.twice)
}

// grows waits until Redis has confirmed n more events.
func (p *producers) grows(t *testing.T, n int) {
	t.Helper()
	target := p.journal.size() + n
	testenv.Eventually(t, within, func() error {
		if have := p.journal.size(); have < target {
			return fmt.Errorf("the producers have added %d of %d events", have, target)
		}
		return nil
	})
}
