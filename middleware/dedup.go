package middleware

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/internal/outage"
	"github.com/fraiseql/observer/internal/step"
)

// dedupTimeout bounds one call of the store. It stands above the times that the stores keep themselves.
const dedupTimeout = 15 * time.Second

// DedupConfig describes [Dedup]. Store, Lease, Window and Log are required.
type DedupConfig struct {
	Store DedupStore
	// Lease is how long a delivery stays claimed when its process dies: twice the time of an attempt. It is renewed while the
	// action runs.
	Lease time.Duration
	// Window is how long a delivery that is done is remembered.
	Window time.Duration
	// Report is called after each call of the store, with nil when it answered. Nil: its outages are logged.
	Report  func(error)
	Metrics *metrics.Dedup // nil: nothing is counted
	Log     *slog.Logger
}

// Dedup runs each delivery once: claim, run, confirm. What was done before comes out as event.ErrDuplicate, which [Settle]
// acks; what another holds as event.ErrBusy, which must come again. After any other outcome but success the lease ends, so
// the middlewares that store what failed stand inside. When the store does not answer, the delivery runs all the same: twice
// is better than never.
//
// A message that carries no delivery is known by its UUID and the name of its router handler.
func Dedup(cfg DedupConfig) message.HandlerMiddleware {
	if cfg.Report == nil {
		cfg.Report = reportTo(outage.New(cfg.Log, "deliveries are not deduplicated", "deliveries are deduplicated again"))
	}
	if cfg.Metrics == nil {
		cfg.Metrics = &metrics.Dedup{}
	}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			r := &dedupRun{cfg: &cfg, ctx: msg.Context(), key: dedupKey(msg), owner: rand.Text()}
			if err := r.claim(); err != nil {
				return nil, err
			}
			return r.run(next, msg)
		}
	}
}

func reportTo(log *outage.Log) func(error) {
	return func(err error) {
		if err != nil {
			log.Failed(err)
		} else {
			log.OK()
		}
	}
}

func dedupKey(msg *message.Message) DedupKey {
	if d := event.FromContext(msg.Context()); d != nil {
		return DedupKey{d.Event.ID, d.Observer, d.Action, d.Generation}
	}
	return DedupKey{Event: msg.UUID, Observer: message.HandlerNameFromCtx(msg.Context())}
}

// dedupRun is one delivery on its way through [Dedup].
type dedupRun struct {
	cfg   *DedupConfig
	ctx   context.Context // of the message
	key   DedupKey
	owner string
}

// claim returns the outcome of a delivery that is not to run.
func (r *dedupRun) claim() error {
	ctx, cancel := context.WithTimeout(r.ctx, dedupTimeout)
	defer cancel()
	result, err := r.cfg.Store.Claim(ctx, r.key, r.owner, r.cfg.Lease)
	if err != nil && r.ctx.Err() != nil {
		return r.ctx.Err() // it is left to the next process
	}
	if r.failed(err) {
		return nil
	}
	r.cfg.Metrics.Checks.Add(1)
	switch result {
	case ClaimDone:
		r.cfg.Metrics.Duplicates.Add(1)
		return event.ErrDuplicate
	case ClaimBusy:
		return event.ErrBusy
	}
	return nil
}

func (r *dedupRun) run(next message.HandlerFunc, msg *message.Message) (msgs []*message.Message, err error) {
	err = errors.New("panic") // unless next returns
	stop := r.keep()
	defer func() {
		stop()
		r.end(err)
	}()
	msgs, err = next(msg)
	return msgs, err
}

// end tells the store the outcome, also while the process is ending.
func (r *dedupRun) end(outcome error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), dedupTimeout)
	defer cancel()
	if outcome != nil {
		r.failed(r.cfg.Store.Release(ctx, r.key, r.owner))
		return
	}
	step.At(step.BeforeConfirm, r.key.Event)
	held, err := r.cfg.Store.Confirm(ctx, r.key, r.owner, r.cfg.Window)
	if !r.failed(err) && !held {
		r.warnLost("a delivery outlived its lease and may have run twice")
	}
}

// failed reports an error of the store, which decides nothing about the delivery.
func (r *dedupRun) failed(err error) bool {
	if err != nil {
		r.cfg.Metrics.Errors.Add(1)
	}
	if !errors.Is(err, ErrStoreAway) { // its cause was reported
		r.cfg.Report(err)
	}
	return err != nil
}

func (r *dedupRun) warnLost(what string) {
	r.cfg.Log.Warn(what, slog.String("event_id", r.key.Event), slog.String("observer", r.key.Observer), slog.String("action", r.key.Action)) //nolint:sloglint // the callers give constants
}
