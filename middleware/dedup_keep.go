package middleware

import (
	"context"
	"time"
)

// keep renews the lease until stop is called, which waits for a renewal that is under way. A goroutine begins only when half
// the lease is over.
func (r *dedupRun) keep() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	ended := make(chan struct{})
	timer := time.AfterFunc(r.cfg.Lease/2, func() {
		defer close(ended)
		r.renew(ctx)
	})
	return func() {
		cancel()
		if !timer.Stop() {
			<-ended
		}
	}
}

// renew renews the lease, at once and then every quarter of it, until ctx ends or another holds it.
func (r *dedupRun) renew(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Lease / 4)
	defer tick.Stop()
	for {
		if !r.renewOnce(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *dedupRun) renewOnce(ctx context.Context) (again bool) {
	limited, cancel := context.WithTimeout(ctx, dedupTimeout)
	defer cancel()
	held, err := r.cfg.Store.Renew(limited, r.key, r.owner, r.cfg.Lease)
	switch {
	case ctx.Err() != nil:
		return false
	case r.failed(err):
		return true
	case !held:
		r.warnLost("a delivery still runs while another process holds its lease")
	}
	return held
}
