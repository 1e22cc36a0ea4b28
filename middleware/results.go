package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fraiseql/observer/internal/outage"
)

// ResultsConfig says how [Results] are built. Store, TTL and Log are required.
type ResultsConfig struct {
	Store ResultStore
	TTL   time.Duration  // how long a success is remembered
	Look  func(hit bool) // is told of each look for a success; nil: nobody is
	Log   *slog.Logger
}

// Results remember successes for [Cache], in a store that may fail: then nothing is remembered, everything is handled, and
// the log says so. All that use one store share its Results.
type Results struct {
	cfg           ResultsConfig
	reads, writes patience
}

// NewResults returns the Results of a store.
func NewResults(cfg ResultsConfig) (*Results, error) {
	if cfg.Store == nil || cfg.TTL <= 0 || cfg.Log == nil {
		return nil, errors.New("build cache: Store, TTL and Log are required")
	}
	r := &Results{cfg: cfg}
	r.reads.trouble = outage.New(cfg.Log, "cached results cannot be read, every action runs", "cached results are read again")
	r.writes.trouble = outage.New(cfg.Log, "results cannot be cached, identical actions run again", "results are cached again")
	return r, nil
}

func (r *Results) has(ctx context.Context, key string) (hit bool) {
	r.reads.call(ctx, func(ctx context.Context) (err error) {
		hit, err = r.cfg.Store.Has(ctx, key)
		return err
	})
	r.looked(hit)
	return hit
}

// put comes after the effect, so it is done even where ctx has ended meanwhile.
func (r *Results) put(ctx context.Context, key string) {
	r.writes.call(context.WithoutCancel(ctx), func(ctx context.Context) error { return r.cfg.Store.Put(ctx, key, r.cfg.TTL) })
}

func (r *Results) looked(hit bool) {
	if r.cfg.Look != nil {
		r.cfg.Look(hit)
	}
}
