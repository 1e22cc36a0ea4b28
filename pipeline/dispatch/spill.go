package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer/event"
)

// Spilled is a delivery that waits in the retry queue although it has not failed: its endpoint takes no more for now, or an
// earlier one of its lane is there.
type Spilled struct {
	Delivery  *event.Delivery
	NotBefore time.Time
}

// spillBatch is how many deliveries are stored at a time.
const spillBatch = 256

// spilling is a job on its way into the retry queue.
type spilling struct {
	job *job
	due time.Time
}

// spills are the jobs on their way, in order. What limits them is the read-ahead of the sources: they have not settled.
type spills struct {
	more chan struct{} // one slot: there is something to store

	mu   sync.Mutex // guards jobs
	jobs []spilling
}

func (s *spills) put(j *job, due time.Time) {
	s.mu.Lock()
	s.jobs = append(s.jobs, spilling{j, due})
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *spills) take() []spilling {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.jobs), spillBatch)
	batch := s.jobs[:n:n]
	if s.jobs = s.jobs[n:]; len(s.jobs) == 0 {
		s.jobs = nil
	}
	return batch
}

// runSpiller stores what is spilled, in the order in which it came, until drained closes. Then it settles.
func (d *Dispatcher) runSpiller(ctx context.Context, drained <-chan struct{}) {
	for {
		for batch := d.spills.take(); len(batch) > 0; batch = d.spills.take() {
			ok := d.storeSpilled(ctx, batch)
			for _, s := range batch {
				d.parked.stored(s.job.delivery, ok)
				d.settle(ctx, s.job, ok)
			}
		}
		select {
		case <-d.spills.more:
		case <-drained:
			return
		}
	}
}

// storeSpilled keeps trying, and so holds the upstream back, until the deliveries are durable or the process ends.
func (d *Dispatcher) storeSpilled(ctx context.Context, batch []spilling) bool {
	list := make([]Spilled, len(batch))
	for i, s := range batch {
		list[i] = Spilled{s.job.delivery, s.due}
	}
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		if !d.held() { // another process may have the events by now
			if !pause(ctx, nil, heldPause) {
				return false
			}
			continue
		}
		err := d.cfg.Spill(context.WithoutCancel(ctx), list)
		if err == nil {
			return true
		}
		d.cfg.Log.Warn("deliveries that have to wait could not be stored, will try again", slog.Int("deliveries", len(list)), slog.Any("error", err))
		if !pause(ctx, nil, wait) {
			return false
		}
	}
}

// Parked must be called when a delivery that carries a lane was stored in the retry queue with its due time.
func (d *Dispatcher) Parked(delivery *event.Delivery, due time.Time) { d.parked.add(delivery, due) }

// Learn tells of lanes of which other processes have parked deliveries: what comes in them from now on has to follow those.
func (d *Dispatcher) Learn(lanes []Lane) { d.parked.learn(lanes) }

// Forget lets the lanes go of which other processes have run all that was parked. stored lists those of which deliveries are
// in the queue; it is not asked while this process knows of none.
func (d *Dispatcher) Forget(ctx context.Context, stored func(context.Context) ([]Lane, error)) error {
	before := d.parked.settled()
	if len(before) == 0 {
		return nil
	}
	lanes, err := stored(ctx)
	if err == nil {
		d.parked.forget(before, lanes)
	}
	return err
}

// Busy lists the topics whose endpoints take no more for now: what is parked for them had better stay there.
func (d *Dispatcher) Busy() []string {
	var topics []string
	for topic, a := range d.actions {
		if d.shares.full(a.share) || a.down != nil && a.down() {
			topics = append(topics, topic)
		}
	}
	return topics
}
