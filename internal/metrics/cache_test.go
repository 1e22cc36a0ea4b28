package metrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/metrics"
)

func TestTheHitRateIsTheShareOfHits(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	cache := metrics.NewCache(registry)
	require.Zero(t, cache.HitRate(), "before the first look")
	for _, hit := range []bool{false, true, true, true} {
		cache.Look(hit)
	}
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP fraiseql_observer_cache_hit_rate Share of hits among all cacheable actions since the start; 0 before the first.
# TYPE fraiseql_observer_cache_hit_rate gauge
fraiseql_observer_cache_hit_rate 0.75
# HELP fraiseql_observer_cache_hits_total Actions that were skipped because an identical one succeeded lately.
# TYPE fraiseql_observer_cache_hits_total counter
fraiseql_observer_cache_hits_total 3
# HELP fraiseql_observer_cache_misses_total Cacheable actions that ran.
# TYPE fraiseql_observer_cache_misses_total counter
fraiseql_observer_cache_misses_total 1
`)))
	require.EqualValues(t, 3, cache.Hits())
}
