package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fraiseql/observer/middleware"
)

// Results are successes that all processes on one Redis remember together.
type Results struct{ client redis.UniversalClient }

var _ middleware.ResultStore = (*Results)(nil)

// NewResults returns the Results on the server of client, which stays the caller's.
func NewResults(client redis.UniversalClient) *Results { return &Results{client} }

// Has implements middleware.ResultStore.
func (r *Results) Has(ctx context.Context, key string) (bool, error) {
	err := r.client.Get(ctx, key).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read cached result: %w", err)
	}
	return true, nil
}

// Put implements middleware.ResultStore. That the key exists says all, so its value is "1".
func (r *Results) Put(ctx context.Context, key string, ttl time.Duration) error {
	if err := r.client.Set(ctx, key, "1", ttl).Err(); err != nil {
		return fmt.Errorf("cache result: %w", err)
	}
	return nil
}
