package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// heldBy lists what a consumer holds from an id on, as claimIdle does.
var heldBy = redis.NewScript(`
local out = {}
for _, p in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4], ARGV[2])) do
  local m = redis.call('XRANGE', KEYS[1], p[1], p[1])
  if m[1] then
    out[#out + 1] = {p[1], p[4], tonumber(redis.call('HGET', KEYS[2], p[1]) or 0), m[1][2]}
  else
    redis.call('XACK', KEYS[1], ARGV[1], p[1])
  end
end
return out`)

// recover looks, after a read or a claim whose answer did not arrive, for what the server gave to this consumer all the same:
// it goes before what is new. A server that was held up may carry such a read out later: for a time, each read is followed by
// another look.
func (d *Driver) recover(ctx context.Context) error {
	if !d.unsure { // and wait for no ack that is under way
		return nil
	}
	d.telling.Lock()
	defer d.telling.Unlock()
	from := "-"
	for d.unsure {
		rows, err := heldBy.Run(ctx, d.cfg.Client, []string{d.cfg.Stream, d.marks}, d.cfg.Group, d.consumer, from, batchSize).Slice()
		if err != nil {
			return fmt.Errorf("read entries in flight of stream %s: %w", d.cfg.Stream, err)
		}
		d.adopt(rows, 1) // the answer that got lost handed it out
		if d.unsure = len(rows) > 0; d.unsure {
			from = "(" + rows[len(rows)-1].([]any)[0].(string)
		}
	}
	return nil
}

// givenBack is longer than anybody holds an entry: only what its consumer gave back has been idle for that long.
const givenBack = 10 * 365 * 24 * time.Hour

// pulse tells whether the server has answered long enough for every living consumer to have renewed what it holds. Where it
// has not, none that is silent is known to be dead.
type pulse struct {
	mu            sync.Mutex // guards what follows
	latest, since time.Time  // renewals: the latest, and the first of those without a gap up to it
}

// begin takes the server for one that has answered all the time.
func (p *pulse) begin(now time.Time) { p.latest = now }

// beat notes a renewal.
func (p *pulse) beat(now time.Time, ackWait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if missed(p.latest, now, ackWait) {
		p.since = now
	}
	p.latest = now
}

func (p *pulse) steady(now time.Time, ackWait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !missed(p.latest, now, ackWait) && now.Sub(p.since) >= ackWait
}

// missed reports whether a renewal, of which each AckWait has three, is overdue.
func missed(latest, now time.Time, ackWait time.Duration) bool { return now.Sub(latest) > ackWait*2/3 }
