package pipeline

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/pipeline/postgres"
)

// bus is the stream that bridges fill and workers empty.
type bus struct {
	js  jetstream.JetStream
	cfg interface{ Subject }
}

// state returns how far the stream is filled, and the first sequence that is still in it.
func (b *bus) state(ctx context.Context) (m postgres.StreamMark, first uint64, err error) {
	return m, first, nil
}
