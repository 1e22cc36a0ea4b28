package redis_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// losing is a connection that breaks, once, where an answer with events arrives.
type losing struct {
	net.Conn
	armed *atomic.Bool
}

func (c losing) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if bytes.Contains(b[:n], []byte("_watermill_message_uuid")) && c.armed.CompareAndSwap(true, false) {
		return 0, errors.Join(io.EOF, c.Close())
	}
	return n, err
}

// TestAReadIsNotRepeatedByTheClient: what the lost answer held would be missing before what the next one holds.
func TestAReadIsNotRepeatedByTheClient(t *testing.T) {
	t.Parallel()
	options, err := goredis.ParseURL(testenv.Redis(t))
	require.NoError(t, err)
	var armed atomic.Bool
	options.MaxRetries = 1
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return losing{conn, &armed}, err
	}
	client, stream := goredis.NewClient(options), streamName()
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	list := events(4)
	publish(t, client, stream, list)
	d := driver(t, client, stream)
	armed.Store(true)
	_, err = d.Fetch(soon(t), 2)
	require.Error(t, err)
	require.Equal(t, eventIDs(list), ids(fetch(t, d, 4)))
}
