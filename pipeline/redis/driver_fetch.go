package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/pipeline/window"
)

const (
	readBlock   = 250 * time.Millisecond // a read cannot be interrupted: the end waits this long for it
	readTimeout = 5 * time.Second        // beyond that, for the server to answer
	lookEvery   = time.Second            // at most, between two looks for what other consumers left
	sweepEvery  = 10 * time.Minute       // between two looks for consumers that are no more
	markExpiry  = 24 * time.Hour         // of the starts of suspects, of which somebody trimmed the stream
)

// Fetch implements window.Driver.
func (d *Driver) Fetch(ctx context.Context, limit int) ([]window.Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("fetch from stream %s: %w", d.cfg.Stream, err)
		}
		items, err := d.next(ctx, limit)
		if err != nil && strings.Contains(err.Error(), "NOGROUP") { // the server has lost all it had
			d.cfg.Log.Warn("consumer group is gone and created anew", slog.String("topic", d.cfg.Stream))
			err = createGroup(ctx, d.cfg.Client, d.cfg.Stream, d.cfg.Group)
		}
		if err != nil {
			d.unsure, d.wary = true, time.Now().Add(2*readTimeout)
		}
		if err != nil || len(items) > 0 {
			return items, err
		}
	}
}

func (d *Driver) next(ctx context.Context, limit int) ([]window.Item, error) {
	if err := d.recover(ctx); err != nil {
		return nil, err
	}
	if err := d.look(ctx); err != nil {
		return nil, err
	}
	suspect, quiet, err := d.nextSuspect(ctx)
	if err != nil || suspect != nil {
		return d.handOut(suspect), err
	}
	if quiet {
		d.await(ctx)
		return nil, nil
	}
	if again := d.again(limit); len(again) > 0 {
		return d.handOut(again), nil
	}
	return d.read(ctx, limit)
}

func (d *Driver) await(ctx context.Context) {
	timer := time.NewTimer(min(lookEvery, d.cfg.AckWait/3))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-d.changed:
	case <-timer.C:
	}
}

// read asks for new entries. It outlives the caller's context: what the server gave to nobody has to wait for AckWait.
func (d *Driver) read(ctx context.Context, limit int) ([]window.Item, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBlock+readTimeout)
	defer cancel()
	cmd := once{redis.NewXStreamSliceCmd(ctx, "xreadgroup", "group", d.cfg.Group, d.consumer,
		"count", limit, "block", d.block().Milliseconds(), "streams", d.cfg.Stream, ">")}
	_ = d.cfg.Client.Process(ctx, cmd) // Result returns its error
	streams, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", d.cfg.Stream, err)
	}
	var list []*entry
	for _, s := range streams {
		for _, m := range s.Messages {
			list = append(list, newEntry(m))
		}
	}
	d.take(list)
	if time.Now().Before(d.wary) { // what was given before it goes first
		d.unsure = true
		return nil, nil
	}
	return d.handOut(list), nil
}

// once is a read that the client does not repeat by itself: when its answer gets lost, so do entries that are to be handed out
// before those of the next one.
type once struct{ *redis.XStreamSliceCmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// block is how long a read may take: until something that was given back is due.
func (d *Driver) block() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := readBlock
	for _, e := range d.entries {
		if e.state == waiting && !e.suspect {
			wait = min(wait, time.Until(e.due))
		}
	}
	return max(wait, time.Millisecond) // 0 is for ever
}

func newEntry(m redis.XMessage) *entry {
	e := &entry{XMessage: m}
	ms, seq, _ := strings.Cut(m.ID, "-")
	e.ms, _ = strconv.ParseUint(ms, 10, 64)
	e.seq, _ = strconv.ParseUint(seq, 10, 64)
	return e
}

func (d *Driver) take(list []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range list {
		d.entries[e.ID] = e
	}
}

// again picks entries that are to be handed out another time, in the order of the stream.
func (d *Driver) again(limit int) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.waiting(func(e *entry) bool { return !e.suspect && time.Until(e.due) <= 0 })
	return list[:min(len(list), limit)]
}

// waiting lists entries in the order of the stream. The caller holds mu.
func (d *Driver) waiting(which func(*entry) bool) (list []*entry) {
	for _, e := range d.entries {
		if e.state == waiting && which(e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, (*entry).compare)
	return list
}

// compare orders entries as the stream does.
func (e *entry) compare(o *entry) int {
	return cmp.Or(cmp.Compare(e.ms, o.ms), cmp.Compare(e.seq, o.seq))
}

func (d *Driver) handOut(list []*entry) []window.Item {
	d.mu.Lock()
	defer d.mu.Unlock()
	items := make([]window.Item, len(list))
	for i, e := range list {
		msg := messageOf(d.cfg.Stream, e.XMessage)
		if e.suspect {
			d.suspect = e
			if e.marks > d.startsAllowed() {
				convict(msg, d.cfg.MaxDeliver)
			}
		}
		e.state = running
		d.running++
		items[i] = window.Item{Msg: msg, Raw: e}
	}
	return items
}
