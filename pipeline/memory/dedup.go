package memory

import (
	"context"
	"sync"
	"time"

	"github.com/fraiseql/observer/middleware"
)

// dedupSweep is the least number of records that makes it worth to look for expired ones.
const dedupSweep = 1024

// Dedup remembers deliveries until the process ends or their record expires. The zero value is ready.
type Dedup struct {
	mu      sync.Mutex // guards what follows
	records map[identity]dedupRecord
	sweepAt int // records that trigger the next look for expired ones
}

type dedupRecord struct {
	generation int
	owner      string
	done       bool
	expires    time.Time
}

var _ middleware.DedupStore = (*Dedup)(nil)

// Claim implements middleware.DedupStore.
func (d *Dedup) Claim(_ context.Context, key middleware.DedupKey, owner string, lease time.Duration) (middleware.ClaimResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, there := d.get(key)
	switch {
	case there && !r.done && !r.isOf(key, owner):
		return middleware.ClaimBusy, nil
	case there && r.done && r.generation >= key.Generation:
		return middleware.ClaimDone, nil
	}
	d.put(key, dedupRecord{key.Generation, owner, false, time.Now().Add(lease)})
	return middleware.Claimed, nil
}

// Renew implements middleware.DedupStore.
func (d *Dedup) Renew(_ context.Context, key middleware.DedupKey, owner string, lease time.Duration) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, there := d.get(key); there && (r.done || !r.isOf(key, owner)) {
		return false, nil
	}
	d.put(key, dedupRecord{key.Generation, owner, false, time.Now().Add(lease)})
	return true, nil
}

// Confirm implements middleware.DedupStore.
func (d *Dedup) Confirm(_ context.Context, key middleware.DedupKey, owner string, window time.Duration) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, there := d.get(key)
	held := !there || r.isOf(key, owner)
	if held || r.generation <= key.Generation {
		d.put(key, dedupRecord{key.Generation, owner, true, time.Now().Add(window)})
	}
	return held, nil
}

// Release implements middleware.DedupStore.
func (d *Dedup) Release(_ context.Context, key middleware.DedupKey, owner string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, there := d.get(key); there && !r.done && r.isOf(key, owner) {
		delete(d.records, identityOf(key))
	}
	return nil
}

func identityOf(key middleware.DedupKey) identity {
	return identity{key.Event, key.Observer, key.Action}
}

func (r dedupRecord) isOf(key middleware.DedupKey, owner string) bool {
	return r.owner == owner && r.generation == key.Generation
}

func (d *Dedup) get(key middleware.DedupKey) (dedupRecord, bool) {
	r, there := d.records[identityOf(key)]
	return r, there && time.Now().Before(r.expires)
}

func (d *Dedup) put(key middleware.DedupKey, r dedupRecord) {
	if d.records == nil {
		d.records = map[identity]dedupRecord{}
	}
	d.records[identityOf(key)] = r
	if len(d.records) > max(d.sweepAt, dedupSweep) {
		d.sweep()
	}
}

// sweep forgets what has expired. The next look comes when what is left has doubled, so that it costs each record little.
func (d *Dedup) sweep() {
	now := time.Now()
	for id, r := range d.records {
		if !now.Before(r.expires) {
			delete(d.records, id)
		}
	}
	d.sweepAt = 2 * len(d.records)
}
