package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/middleware"
)

// Dedup keeps the record of a delivery under the key event:<event id>:<observer>:<action>, for as long as its lease or its window
// lasts. The value is "held:<generation>:<owner>" while the action runs and "done:<generation>:<owner>" afterwards. The
// steps of concurrent callers share a pipeline.
type Dedup struct {
	client  redis.UniversalClient
	scripts *scripts
}

var _ middleware.DedupStore = (*Dedup)(nil)

// NewDedup returns a store on the server of client, which stays the caller's. timeout bounds one answer.
func NewDedup(client redis.UniversalClient, timeout time.Duration) *Dedup {
	return &Dedup{client, newScripts(client, timeout)}
}

// Close waits for what is under way. No other method is called from then on.
func (d *Dedup) Close() { d.scripts.batcher.Wait() }

// Probe goes the way of a delivery, with a key that lives for a second: a server that is full, is a replica, or denies what
// we need answers a ping all the same.
func (d *Dedup) Probe(ctx context.Context) error {
	key, owner := middleware.DedupKey{Observer: "probe"}, rand.Text()
	if _, err := d.Claim(ctx, key, owner, time.Second); err != nil {
		return err
	}
	return d.Release(ctx, key, owner)
}

var claim = redis.NewScript(`
local held = 'held:' .. ARGV[1] .. ':' .. ARGV[2]
local value = redis.call('GET', KEYS[1])
if value and value ~= held then
  local state, generation = string.match(value, '^(%a+):(%d+):')
  if state == 'held' then return 1 end
  if state == 'done' and tonumber(generation) >= tonumber(ARGV[1]) then return 2 end
end
redis.call('SET', KEYS[1], held, 'PX', ARGV[3])
return 0`)

// Claim implements middleware.DedupStore. Most keys are new, and SET tells that for less than a script costs.
func (d *Dedup) Claim(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (middleware.ClaimResult, error) {
	name, held, millis := key.String(), "held:"+strconv.Itoa(key.Generation)+":"+owner, lease.Milliseconds()
	n, err := d.send(ctx, "claim", step{
		script: claim, key: name, args: []any{strconv.Itoa(key.Generation), owner, millis},
		quick: []any{"set", name, held, "px", millis, "nx"},
	})
	return middleware.ClaimResult(n), err
}

var renew = redis.NewScript(`
local held = 'held:' .. ARGV[1] .. ':' .. ARGV[2]
local value = redis.call('GET', KEYS[1])
if value and value ~= held then return 0 end
redis.call('SET', KEYS[1], held, 'PX', ARGV[3])
return 1`)

// Renew implements middleware.DedupStore.
func (d *Dedup) Renew(ctx context.Context, key middleware.DedupKey, owner string, lease time.Duration) (bool, error) {
	n, err := d.run(ctx, "renew", renew, key, owner, lease.Milliseconds())
	return n == 1, err
}

var confirm = redis.NewScript(`
local mine = ARGV[1] .. ':' .. ARGV[2]
local value = redis.call('GET', KEYS[1])
local held = not value or value == 'held:' .. mine or value == 'done:' .. mine
if not held then
  local generation = string.match(value, '^%a+:(%d+):')
  if generation and tonumber(generation) > tonumber(ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], 'done:' .. mine, 'PX', ARGV[3])
return held and 1 or 0`)

// Confirm implements middleware.DedupStore.
func (d *Dedup) Confirm(ctx context.Context, key middleware.DedupKey, owner string, window time.Duration) (bool, error) {
	n, err := d.run(ctx, "confirm", confirm, key, owner, window.Milliseconds())
	return n == 1, err
}

var release = redis.NewScript(`
if redis.call('GET', KEYS[1]) == 'held:' .. ARGV[1] .. ':' .. ARGV[2] then
  return redis.call('DEL', KEYS[1])
end
return 0`)

// Release implements middleware.DedupStore.
func (d *Dedup) Release(ctx context.Context, key middleware.DedupKey, owner string) error {
	_, err := d.run(ctx, "release", release, key, owner)
	return err
}

func (d *Dedup) run(ctx context.Context, what string, script *redis.Script, key middleware.DedupKey, owner string, args ...any) (int, error) {
	return d.send(ctx, what, step{script: script, key: key.String(), args: append([]any{strconv.Itoa(key.Generation), owner}, args...)})
}

// send sends one step. Its errors name no key.
func (d *Dedup) send(ctx context.Context, what string, s step) (int, error) {
	n, err := d.scripts.run(ctx, s)
	if err != nil {
		return 0, fmt.Errorf("%s delivery in Redis: %w", what, err)
	}
	return n, nil
}
