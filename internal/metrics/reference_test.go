package metrics_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/metrics"
)

func TestTheReferenceNamesEveryMetric(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reference.md")
	require.NoError(t, err)
	registry := prometheus.NewRegistry()
	metrics.New(registry)
	descriptions := make(chan *prometheus.Desc, 1000)
	registry.Describe(descriptions)
	close(descriptions)
	name, n := regexp.MustCompile(`fqName: "fraiseql_observer_([a-z_]+)"`), 0
	for d := range descriptions {
		if found := name.FindStringSubmatch(d.String()); found != nil {
			require.Regexp(t, "`"+found[1]+"[`{]", string(text))
			n++
		}
	}
	require.Greater(t, n, 10)
}
