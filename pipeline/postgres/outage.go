package postgres

import "log/slog"

// A session trusts its snapshots only while its connections stand: after a crash of Postgres transaction ids are given
// out again, and an older snapshot would call new rows old. So a new session starts from the stored checkpoint and reads
// rows again. What is in flight goes on meanwhile; it is recognised by event id, so that it is neither doubled nor lost.

// attach starts a session at a stored checkpoint.
func (r *Reader) attach(c checkpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started && r.loaded != c.epoch {
		r.cfg.Log.Info("the checkpoint was moved or deleted: reading from where it is now", slog.String("checkpoint", r.cfg.Name))
		r.forget()
	}
	r.started, r.loaded = true, c.epoch
	r.cursor = cursor{position: c.position, epoch: c.epoch}
	for i, pk := range c.pending {
		e := &entry{pk: pk, prior: c.starts[i], done: c.done[pk], state: stored}
		if c.alone != nil && *c.alone == pk && int(e.prior) >= r.cfg.MaxDeliver {
			e.prior = poisoned
		}
		r.cursor.add(e)
	}
	r.live = true
	r.health.recovered()
}

// attached reports whether a session ever began.
func (r *Reader) attached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started
}

// detach ends a session.
func (r *Reader) detach(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.cursor.first; e != nil; e = r.cursor.first {
		r.cursor.remove(e)
		switch e.state {
		case running, delayed:
			r.known[e.id] = e
		case ready:
			r.known[e.id] = &entry{id: e.id, prior: e.prior, done: e.done, state: dropped}
		}
	}
	for _, e := range r.recent {
		r.known[e.id] = e
	}
	r.cursor, r.recent, r.ready, r.bytes = cursor{}, nil, nil, 0
	r.only, r.quiet, r.live = nil, false, false
	r.health.failed(err)
}

// forget makes a moved checkpoint hold: what had settled is delivered again if the new position says so. What runs now
// is not started twice. The caller holds mu.
func (r *Reader) forget() {
	for id, e := range r.known {
		if e.state != running {
			e.state = orphaned
			delete(r.known, id)
		}
	}
}

// passed says that everything that was visible when the session started has been read: what of the time before was not
// found again does not exist any more. The caller holds mu.
func (r *Reader) passed() {
	for _, e := range r.known {
		if e.state == delayed {
			e.state = orphaned
		}
	}
	clear(r.known)
}

// adopt notes that a row was read, in place of what the stored checkpoint knew of it. It returns nil when the row has
// settled or is in flight. The caller holds mu.
func (r *Reader) adopt(from row, old *entry) *entry {
	e := &entry{pk: from.pk, state: ready}
	if old != nil {
		e.prior, e.done = old.prior, old.done
	}
	if e.prior == 0 && r.careful && r.assumed > 0 {
		r.assumed--
		e.prior = 1
	}
	known := r.known[from.id]
	delete(r.known, from.id)
	fresh := known == nil || known.state == dropped
	if known != nil {
		known.pk = from.pk
		if fresh {
			e.prior, e.done = known.prior, known.done
		} else {
			e = known
		}
	}
	if fresh {
		e.id, e.at, e.msg, e.size = from.id, from.at, from.msg, from.size
	}
	if old != nil {
		r.cursor.remove(old)
	}
	if e.state == settled {
		r.recent = append(r.recent, e)
		r.touch()
		return nil
	}
	r.cursor.add(e)
	r.touch()
	if !fresh {
		return nil
	}
	return e
}

// finished reports whether the reader closes and nothing is left to be stored.
func (r *Reader) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing && !r.unsettled()
}

// unsettled reports whether something settled that the session has not read again. The caller holds mu.
func (r *Reader) unsettled() bool {
	for _, e := range r.known {
		if e.state == settled {
			return true
		}
	}
	return false
}
