package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	steadyRate  = 500 // changes a second
	steadyConns = 8   // of the application
)

// latency measures how long a change takes to its receiver under a steady load, and what the observer then occupies.
func (b *bench) latency(ctx context.Context) ([]result, error) {
	r := result{name: fmt.Sprintf("commit -> webhook received, %d changes a second", steadyRate)}
	memory := result{name: "  memory of observer under this load, at most"}
	var sent50, sent99, since50, since99, raw50, raw99, inline50, inline99, peaks []float64
	for i := range max(1, b.pairs/2+1) {
		var ours, raw *arrivals
		var peak float64
		err := alternate(i, func() (err error) {
			raw, err = b.inline(ctx)
			return err
		}, func() (err error) {
			ours, peak, err = b.observed(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		r.add(ours.counts())
		a, c, o, p := ours.since(ours.sent), ours.since(ours.committed), raw.since(raw.sent), raw.since(raw.committed)
		sent50, sent99 = append(sent50, quantile(a, 50)), append(sent99, quantile(a, 99))
		since50, since99 = append(since50, quantile(c, 50)), append(since99, quantile(c, 99))
		raw50, raw99 = append(raw50, quantile(o, 50)), append(raw99, quantile(o, 99))
		inline50, inline99 = append(inline50, quantile(p, 50)), append(inline99, quantile(p, 99))
		peaks = append(peaks, peak)
		b.note("%s: p50 %.2f ms, p99 %.2f ms (from sending %.2f, %.2f) against %.2f, %.2f", r.name, quantile(c, 50), quantile(c, 99), quantile(a, 50), quantile(a, 99), quantile(p, 50), quantile(p, 99))
	}
	p50, p99 := median(since50), median(since99)
	r.ours = fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", p50, p99)
	r.against = fmt.Sprintf("inline POST %.2f ms, %.2f ms", median(inline50), median(inline99))
	r.ratio = p50 / median(inline50)
	r.limits = []limit{atMost(p50, 1, "%.0f ms"), atMost(p99, 4, "%.0f ms")}
	whole := result{
		name: "  from sending the statement, the commit included", ours: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", median(sent50), median(sent99)),
		against: fmt.Sprintf("commit + inline POST %.2f ms, %.2f ms", median(raw50), median(raw99)), ratio: median(sent50) / median(raw50),
	}
	memory.ours = fmt.Sprintf("%.1f MiB", median(peaks))
	memory.limits = []limit{atMost(median(peaks), 45, "%.0f MiB")}
	return []result{r, whole, memory}, nil
}

// arrivals holds when each change was sent to the database, acknowledged by it, and received.
type arrivals struct {
	begun                     time.Time
	sent, committed, received []atomic.Int64 // nanoseconds after begun, by id
	twice                     atomic.Int64
}

func newArrivals(n int) *arrivals {
	return &arrivals{begun: time.Now(), sent: make([]atomic.Int64, n), committed: make([]atomic.Int64, n), received: make([]atomic.Int64, n)}
}

func (a *arrivals) note(list []atomic.Int64, id int64) {
	if id < 0 || id >= int64(len(list)) || !list[id].CompareAndSwap(0, int64(time.Since(a.begun))) {
		a.twice.Add(1)
	}
}

func (a *arrivals) arrived(body []byte) { a.note(a.received, number(body, entityKey, bytes.Index)) }

// since returns the milliseconds between a moment and the arrival, of every change, in order.
func (a *arrivals) since(moment []atomic.Int64) []float64 {
	var list []float64
	for i := range a.received {
		if at := a.received[i].Load(); at > 0 {
			list = append(list, max(0, float64(at-moment[i].Load())/1e6))
		}
	}
	slices.Sort(list)
	return list
}

func (a *arrivals) counts() counts {
	return counts{lost: int64(len(a.received) - len(a.since(a.sent))), twice: a.twice.Load()}
}

// wait waits until everything was received.
func (a *arrivals) wait(ctx context.Context) error {
	return until(ctx, func() bool { return len(a.since(a.sent)) == len(a.received) })
}

func quantile(sorted []float64, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// observed measures the program.
func (b *bench) observed(ctx context.Context) (a *arrivals, peak float64, err error) {
	db, err := b.items(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer db.Close()
	a = newArrivals(int(b.steady.Seconds() * steadyRate))
	warm := make(chan struct{}, 1)
	to, err := receive(ctx, 0, func(body []byte) {
		if number(body, entityKey, bytes.Index) >= int64(len(a.received)) {
			warm <- struct{}{}
			return
		}
		a.arrived(body)
	}, func() {})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	if _, err := db.Exec(ctx, "truncate item"); err != nil {
		return nil, 0, err
	}
	listener := b.name("listener")
	if err := db.fromMark(ctx, listener); err != nil {
		return nil, 0, err
	}
	c, err := b.observe(ctx, setup{database: db.url, listener: listener, observers: observing("all", entity, "", postTo(to.url()))}, spec{})
	if err != nil {
		return nil, 0, err
	}
	err = b.insert(ctx, db, int64(len(a.received)))
	if err == nil {
		err = await(ctx, warm)
	}
	if err == nil {
		err = b.steadily(ctx, len(a.received), func(ctx context.Context, id int64) error {
			a.note(a.sent, id)
			err := b.insert(ctx, db, id)
			a.note(a.committed, id)
			return err
		})
	}
	if err == nil {
		err = a.wait(ctx)
	}
	if err == nil {
		_, peak, err = c.memory()
	}
	if err != nil {
		return nil, 0, errors.Join(err, c.kill())
	}
	_, err = c.stop()
	return a, peak, err
}

// inline measures an application that commits and then posts itself.
func (b *bench) inline(ctx context.Context) (a *arrivals, err error) {
	db, err := b.items(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, `truncate item; drop trigger "00_observer_capture" on item`); err != nil {
		return nil, err
	}
	a = newArrivals(int(b.steady.Seconds() * steadyRate))
	to, err := receive(ctx, 0, a.arrived, func() {})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: steadyConns}}
	defer client.CloseIdleConnections()
	err = b.steadily(ctx, len(a.received), func(ctx context.Context, id int64) error {
		a.note(a.sent, id)
		if err := b.insert(ctx, db, id); err != nil {
			return err
		}
		a.note(a.committed, id)
		return postOne(ctx, client, to.url(), fmt.Appendf(nil, `{"entity_id":"%d","data":{"id": %d, "n": 0, "total": 12.50, "status": "paid", "customer": "customer"}}`, id, id))
	})
	return a, err
}

func (b *bench) insert(ctx context.Context, db *database, id int64) error {
	_, err := db.Exec(ctx, "insert into item values ($1, 0, 'paid', 12.50, 'customer')", id)
	return err
}

// steadily calls do for each id below n at the steady rate, from as many goroutines as the application has connections.
func (b *bench) steadily(ctx context.Context, n int, do func(ctx context.Context, id int64) error) error {
	group, ctx := errgroup.WithContext(ctx)
	ids := make(chan int64, n) // a database that is late for a moment does not change when the others come
	for range steadyConns {
		group.Go(func() error {
			for id := range ids {
				if err := do(ctx, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	tick := time.NewTicker(time.Second / steadyRate)
	defer tick.Stop()
	for id := range int64(n) {
		<-tick.C
		ids <- id
	}
	close(ids)
	return group.Wait()
}
