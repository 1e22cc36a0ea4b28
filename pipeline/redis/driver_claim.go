package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/window"
)

// claimIdle takes over what its consumer gave no sign of life for. It tells how often each was handed out without having
// been given back, and the starts that are marked.
var claimIdle = redis.NewScript(`
local out = {}
for _, p in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local m = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, p[1])
  if m[1] and m[1][2] then
    out[#out + 1] = {p[1], p[4], tonumber(redis.call('HGET', KEYS[2], p[1]) or 0), m[1][2]}
  else
    redis.call('XACK', KEYS[1], ARGV[1], p[1])
  end
end
return out`)

// sweepConsumers deletes consumers that hold nothing and were not heard of for a time.
var sweepConsumers = redis.NewScript(`
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local field = {}
  for i = 1, #c, 2 do field[c[i]] = c[i + 1] end
  if field.pending == 0 and field.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field.name)
  end
end
return 0`)

// look takes over, now and then, what other consumers left. What a consumer gave back as it ended is there at once.
func (d *Driver) look(ctx context.Context) error {
	if time.Since(d.looked) < min(lookEvery, d.cfg.AckWait/3) {
		return nil
	}
	if err := d.flush(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	unread := len(d.waiting(func(*entry) bool { return true }))
	d.mu.Unlock()
	more := false
	if unread < batchSize { // the rest is left to other workers
		var err error
		if more, err = d.claim(ctx); err != nil {
			return err
		}
	}
	if !more { // else the rest goes before what is new
		d.looked = time.Now()
	}
	return d.sweep(ctx)
}

// claim reports whether there may be more to take over.
func (d *Driver) claim(ctx context.Context) (more bool, err error) {
	idle := d.cfg.AckWait
	if !d.pulse.steady(time.Now(), d.cfg.AckWait) {
		idle = givenBack
	}
	d.telling.Lock()
	defer d.telling.Unlock()
	rows, err := claimIdle.Run(context.WithoutCancel(ctx), d.cfg.Client, []string{d.cfg.Stream, d.marks},
		d.cfg.Group, d.consumer, idle.Milliseconds(), batchSize).Slice()
	if err != nil {
		return false, fmt.Errorf("claim entries of stream %s: %w", d.cfg.Stream, err)
	}
	d.adopt(rows, 0)
	return len(rows) == batchSize, nil
}

// adopt takes entries in that this consumer holds and does not know. Those that were handed out more often than known are
// suspect.
func (d *Driver) adopt(rows []any, known int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, row := range rows {
		r := row.([]any)
		m := redis.XMessage{ID: r[0].(string), Values: map[string]any{}}
		if d.entries[m.ID] != nil { // this process was held up
			continue
		}
		fields := r[3].([]any)
		for i := 0; i+1 < len(fields); i += 2 {
			m.Values[fields[i].(string)] = fields[i+1]
		}
		e := newEntry(m)
		e.suspect, e.marks = r[1].(int64) > known, int(r[2].(int64))
		d.entries[m.ID] = e
	}
}

func (d *Driver) sweep(ctx context.Context) error {
	if time.Since(d.swept) < sweepEvery {
		return nil
	}
	unheard := max(time.Hour, 2*d.cfg.AckWait)
	if err := sweepConsumers.Run(ctx, d.cfg.Client, []string{d.cfg.Stream}, d.cfg.Group, unheard.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("read consumers of stream %s: %w", d.cfg.Stream, err)
	}
	d.swept = time.Now()
	return nil
}

// startsAllowed is how many marked starts may end without an outcome: the one before them was not marked.
func (d *Driver) startsAllowed() int { return max(1, d.cfg.MaxDeliver-1) }

func convict(msg *message.Message, starts int) {
	msg.Metadata.Set(window.MetadataPoison, fmt.Sprintf("started %d times without an outcome: the process ended while it ran", starts))
	msg.Metadata.Set(window.MetadataPoisonClass, "poison")
}

// nextSuspect marks the start of at most one suspect, and of none while another one is out. It reports quiet while nothing
// else may be handed out: one that has a mark already runs alone.
func (d *Driver) nextSuspect(ctx context.Context) (list []*entry, quiet bool, err error) {
	d.mu.Lock()
	if d.suspect != nil {
		quiet = d.suspect.marks > 1 && d.suspect.marks <= d.startsAllowed()
		d.mu.Unlock()
		return nil, quiet, nil
	}
	suspects := d.waiting(func(e *entry) bool { return e.suspect })
	busy := d.running > 0
	d.mu.Unlock()
	if len(suspects) == 0 {
		return nil, false, nil
	}
	e := slices.MaxFunc(suspects, func(a, b *entry) int { return a.marks - b.marks })
	if e.marks > 0 && e.marks < d.startsAllowed() && busy {
		return nil, true, nil
	}
	pipe := d.cfg.Client.TxPipeline()
	pipe.HSet(ctx, d.marks, e.ID, e.marks+1) // not one more: the client may send it twice
	pipe.Expire(ctx, d.marks, markExpiry)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, fmt.Errorf("mark a start: %w", err)
	}
	d.cfg.Log.Warn("entry was in work when its process died: it runs alone", slog.String("topic", d.cfg.Stream), slog.String("entry", e.ID))
	d.mu.Lock()
	defer d.mu.Unlock()
	e.marks++
	return []*entry{e}, false, nil
}
