package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/window"
)

// renewHeld renews what is still this consumer's and returns the rest.
var renewHeld = redis.NewScript(`
local lost = {}
for i = 3, #ARGV do
  local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if p[1] and p[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost`)

// giveBackAll makes whatever is this consumer's claimable at once, as if it had never been handed out, and removes the
// consumer when it holds nothing.
var giveBackAll = redis.NewScript(`
local from, any = '-', false
while true do
  local list = redis.call('XPENDING', KEYS[1], ARGV[1], from, '+', 256, ARGV[2])
  if #list == 0 then break end
  any = true
  for _, p in ipairs(list) do
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, p[1], 'TIME', 1, 'RETRYCOUNT', 0, 'JUSTID')
    redis.call('HDEL', KEYS[2], p[1])
  end
  from = '(' .. list[#list][1]
end
if not any then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end
return 0`)

// settle takes entries out of the group and out of the stream, and then the marks of some. It is no transaction: a server
// whose memory is full takes none, and would have to keep what is done. Trimming up to the oldest that is pending would cost
// less than deleting each, and would take what a group was set beyond, or what a deleted consumer held, as well.
var settle = redis.NewScript(`
local last = 2 + ARGV[2]
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3, last))
redis.call('XDEL', KEYS[1], unpack(ARGV, 3, last))
if #ARGV > last then redis.call('HDEL', KEYS[2], unpack(ARGV, last + 1)) end
return 0`)

// Ack implements window.Driver. What the server could not be told is told again until Close ends.
func (d *Driver) Ack(ctx context.Context, items []window.Item) error {
	d.mu.Lock()
	for _, item := range items {
		d.returned(item.Raw.(*entry), settled)
	}
	d.mu.Unlock()
	err := d.flush(ctx)
	d.signal()
	return err
}

// Nack implements window.Driver. The entry stays this consumer's until it is handed out again, or until Close.
func (d *Driver) Nack(ctx context.Context, item window.Item, delay time.Duration) error {
	e := item.Raw.(*entry)
	d.mu.Lock()
	d.returned(e, waiting)
	e.due = time.Now().Add(delay)
	marked := e.suspect
	e.suspect, e.marks = false, 0
	if e.lost {
		delete(d.entries, e.ID)
	}
	d.mu.Unlock()
	d.signal()
	if !marked {
		return nil
	}
	if err := d.cfg.Client.HDel(ctx, d.marks, e.ID).Err(); err != nil {
		return fmt.Errorf("take the mark of a start away: %w", err)
	}
	return nil
}

// returned notes that an entry is out no more. The caller holds mu.
func (d *Driver) returned(e *entry, s state) {
	if e.state == running {
		d.running--
	}
	if d.suspect == e {
		d.suspect = nil
	}
	e.state = s
	d.entries[e.ID] = e
}

// flush tells the server what has settled: it leaves the group and the stream in one step. In the order of the stream the
// server deletes several times as fast.
func (d *Driver) flush(ctx context.Context) error {
	d.mu.Lock()
	var done []*entry
	for _, e := range d.entries {
		if e.state == settled {
			done = append(done, e)
		}
	}
	d.mu.Unlock()
	slices.SortFunc(done, (*entry).compare)
	for some := range slices.Chunk(done, batchSize) {
		if err := d.tell(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) tell(ctx context.Context, done []*entry) error {
	args := make([]any, 2, len(done)+3)
	args[0], args[1] = d.cfg.Group, len(done)
	for _, e := range done {
		args = append(args, e.ID)
	}
	for _, e := range done {
		if e.suspect {
			args = append(args, e.ID)
		}
	}
	d.telling.Lock()
	defer d.telling.Unlock()
	if err := settle.Run(ctx, d.cfg.Client, []string{d.cfg.Stream, d.marks}, args...).Err(); err != nil {
		return fmt.Errorf("acknowledge entries of stream %s: %w", d.cfg.Stream, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range done {
		delete(d.entries, e.ID)
	}
	return nil
}

// heartbeat keeps what this consumer holds from being taken for a dead one's.
func (d *Driver) heartbeat(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.AckWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := d.renew(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("entries in flight not renewed, will try again", slog.String("topic", d.cfg.Stream), slog.Any("error", err))
		}
	}
}

func (d *Driver) renew(ctx context.Context) error {
	begun := time.Now()
	if err := d.flush(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	ids := make([]any, 0, len(d.entries))
	for id, e := range d.entries {
		if !e.lost {
			ids = append(ids, id)
		}
	}
	d.mu.Unlock()
	for some := range slices.Chunk(ids, batchSize) {
		lost, err := renewHeld.Run(ctx, d.cfg.Client, []string{d.cfg.Stream}, append([]any{d.cfg.Group, d.consumer}, some...)...).StringSlice()
		if err != nil {
			return fmt.Errorf("renew entries of stream %s: %w", d.cfg.Stream, err)
		}
		d.drop(lost)
	}
	d.pulse.beat(begun, d.cfg.AckWait)
	return nil
}

// drop forgets what another consumer has now. What runs here may still settle it.
func (d *Driver) drop(lost []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range lost {
		e := d.entries[id]
		switch {
		case e == nil:
		case e.state == running:
			e.lost = true
		case e.state == waiting:
			delete(d.entries, id)
		}
	}
}

// Close implements window.Driver. Until ctx ends it tries to tell every outcome; then the rest is another consumer's to
// claim.
func (d *Driver) Close(ctx context.Context) error {
	d.stop()
	d.beating.Wait()
	return persist(ctx, func(ctx context.Context) error {
		if err := d.flush(ctx); err != nil {
			return err
		}
		err := giveBackAll.Run(ctx, d.cfg.Client, []string{d.cfg.Stream, d.marks}, d.cfg.Group, d.consumer).Err()
		if err != nil && !strings.Contains(err.Error(), "NOGROUP") {
			return fmt.Errorf("give back entries of stream %s: %w", d.cfg.Stream, err)
		}
		return nil
	})
}

// persist tries again until it succeeds or ctx ends.
func persist(ctx context.Context, do func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}
