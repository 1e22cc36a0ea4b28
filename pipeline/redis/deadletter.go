package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/pipeline/deadletter"
)

// DeadLetters keeps what failed for good of one stream. Group stands in each letter for whose it is.
type DeadLetters struct {
	Client        redis.UniversalClient // stays the caller's
	Stream, Group string
}

var (
	_ middleware.DeadLetters = (*DeadLetters)(nil)
	_ deadletter.Store       = (*DeadLetters)(nil)
)

// putLetter: id, generation, entity, event, attempts, how many, error, class, first and last failure.
var putLetter = redis.NewScript(prelude + `
remove(ARGV[1])
local n = redis.call('HGET', D .. ':ids', ARGV[1])
local generation, first = tonumber(ARGV[2]), tonumber(ARGV[9])
if n then
  local old = redis.call('HMGET', letter(n), 'generation', 'first')
  generation, first = math.max(generation, tonumber(old[1])), math.min(first, tonumber(old[2]))
else
  n = redis.call('INCR', D .. ':last')
  redis.call('HSET', D .. ':ids', ARGV[1], n)
end
redis.call('HSET', letter(n), 'id', ARGV[1], 'generation', generation, 'entity', ARGV[3], 'event', ARGV[4], 'attempts', ARGV[5],
  'tries', ARGV[6], 'error', ARGV[7], 'class', ARGV[8], 'first', first, 'last', ARGV[10], 'retrying', 0)
redis.call('ZADD', D, ARGV[10], n)
redis.call('ZADD', D .. ':first', first, n)
return n`)

// Put implements middleware.DeadLetters. The parked entry of the same delivery goes in the same step.
func (l *DeadLetters) Put(ctx context.Context, d *event.Delivery) error {
	last := event.Attempt{At: time.Now(), Class: "error"}
	first := last.At
	if n := len(d.Attempts); n > 0 {
		last, first = d.Attempts[n-1], d.Attempts[0].At
	}
	attempts, err := encodeAttempts(d)
	if err != nil {
		return err
	}
	err = putLetter.Run(ctx, l.Client, []string{l.Stream}, identity(d), d.Generation, d.Event.Entity, d.Event.JSON(), attempts, len(d.Attempts),
		last.Error, last.Class, first.UnixMicro(), last.At.UnixMicro()).Err()
	if err != nil {
		return fmt.Errorf("store dead letter: %w", err)
	}
	return nil
}

// Waiting returns how many dead letters there are, and how long ago the oldest of them failed first.
func (l *DeadLetters) Waiting(ctx context.Context) (n int, oldest time.Duration, err error) {
	row, err := waitingSince.Run(ctx, l.Client, []string{l.Stream + ":dead_letters:first"}).Int64Slice()
	if err != nil {
		return 0, 0, fmt.Errorf("count dead letters: %w", err)
	}
	return int(row[0]), time.Duration(row[1]) * time.Microsecond, nil
}

// Idle implements deadletter.Store.
func (l *DeadLetters) Idle(ctx context.Context) ([]string, error) {
	alive, err := l.Client.Exists(ctx, l.Stream+":retries:alive").Result()
	if err != nil {
		return nil, fmt.Errorf("look for workers: %w", err)
	}
	if alive > 0 {
		return nil, nil
	}
	all, err := l.selected(ctx, deadletter.Filter{})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Retrying {
			return []string{l.Group}, nil
		}
	}
	return nil, nil
}
