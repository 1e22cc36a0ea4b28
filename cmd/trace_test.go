package cmd

import (
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	changeTrace  = "0af7651916cd43dd8448eb211c80319c"
	changeSpan   = "b7ad6b7169203331"
	changeParent = "00-" + changeTrace + "-" + changeSpan + "-01"
)

// collected is what a collector was sent.
type collected struct {
	mu    sync.Mutex // guards what follows
	spans []*v1.Span
	about []string // attributes of the resources
}

// collect starts a collector that speaks OTLP over HTTP and returns its address.
func collect(t *testing.T) (*collected, string) {
	t.Helper()
	c := &collected{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range sent.GetResourceSpans() {
			for _, kv := range resource.GetResource().GetAttributes() {
				c.about = append(c.about, kv.GetKey()+"="+kv.GetValue().GetStringValue())
			}
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	return c, server.URL
}

// receive starts a receiver that fails the first times, and returns the headers of all requests once they have come.
func receive(t *testing.T, failures int) (headers func() []http.Header, url string) {
	t.Helper()
	var mu sync.Mutex
	var all []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if all = append(all, r.Header); len(all) <= failures {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	return func() []http.Header {
		mu.Lock()
		defer mu.Unlock()
		return all
	}, server.URL
}

func webhookFile(t *testing.T, url string) string {
	t.Helper()
	return file(t, "observer.toml", `
[transport]
transport = "in_memory"
[[observers]]
name = "shipped"
entity = "Order"
[[observers.actions]]
type = "webhook"
name = "notify"
url = "`+url+`"
[observers.retry]
initial_delay_ms = 1
`)
}

// runTraced delivers one event with a trace context and returns what the receiver got.
func runTraced(t *testing.T, context string, failures int) (outcome, []http.Header) {
	t.Helper()
	headers, url := receive(t, failures)
	r := observer(t, `{"entity_type": "Order", "data": {"id": 1}, "trace_context": `+context+`}`, "run", "--config", webhookFile(t, url), "--input", "-")
	require.Zero(t, r.code, r.err)
	return r, headers()
}

func TestTheReceiverBelongsToTheTraceOfTheChange(t *testing.T) {
	c, endpoint := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	_, requests := runTraced(t, `{"traceparent": "`+changeParent+`", "tracestate": "shop=1"}`, 1)

	require.Len(t, requests, 2, "the first attempt failed and was parked")
	require.Len(t, c.spans, 2)
	for i, span := range c.spans {
		require.Equal(t, "shipped/notify", span.GetName())
		require.Equal(t, changeTrace, hex.EncodeToString(span.GetTraceId()))
		require.Equal(t, changeSpan, hex.EncodeToString(span.GetParentSpanId()))
		require.Equal(t, "00-"+changeTrace+"-"+hex.EncodeToString(span.GetSpanId())+"-01", requests[i].Get("Traceparent"))
		require.Equal(t, "shop=1", requests[i].Get("Tracestate"))
		require.Equal(t, v1.Span_SPAN_KIND_CLIENT, span.GetKind())
	}
	require.Equal(t, v1.Status_STATUS_CODE_ERROR, c.spans[0].GetStatus().GetCode())
	require.Equal(t, v1.Status_STATUS_CODE_UNSET, c.spans[1].GetStatus().GetCode())
	require.Contains(t, c.about, "service.name=observer")
	require.Contains(t, c.about, "deployment.environment.name=test")
}

func TestATraceThatIsNotSampledIsPassedOnAndNotSent(t *testing.T) {
	c, endpoint := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	_, requests := runTraced(t, `"`+strings.TrimSuffix(changeParent, "1")+`0"`, 0)
	require.Regexp(t, "^00-"+changeTrace+"-[0-9a-f]{16}-00$", requests[0].Get("Traceparent"))
	require.Empty(t, c.spans)
}

func TestAChangeWithoutAValidTraceBeginsOne(t *testing.T) {
	c, endpoint := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_SERVICE_NAME", "shop-hooks")
	for _, invalid := range []string{`null`, `"00-zz"`, `{"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}`, `[1]`} {
		_, requests := runTraced(t, invalid, 0)
		require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, requests[0].Get("Traceparent"), invalid)
	}
	require.Len(t, c.spans, 4)
	require.Empty(t, c.spans[0].GetParentSpanId())
	require.Contains(t, c.about, "service.name=shop-hooks")
}

func TestWithoutTracingThereIsNoHeader(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing is set":      nil,
		"the SDK is disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"no exporter":         {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			_, requests := runTraced(t, `"`+changeParent+`"`, 0)
			require.NotContains(t, requests[0], "Traceparent")
			require.NotContains(t, requests[0], "Tracestate")
		})
	}
}

func TestACollectorThatHangsDisturbsNoDelivery(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = hole.Close() })
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hole.Addr().String())
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("FRAISEQL_SHUTDOWN_TIMEOUT", "0s") // one second is left for the spans
			start := time.Now()
			r, requests := runTraced(t, `"`+changeParent+`"`, 0)
			require.Less(t, time.Since(start), mostFlush)
			require.Len(t, requests, 1)
			require.Contains(t, r.err, "some spans were not sent")
			require.Contains(t, r.out, "1 delivered")
		})
	}
}

func TestWhatTracingCannotDoIsRefusedByName(t *testing.T) {
	path := webhookFile(t, "http://127.0.0.1:1")
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	for _, args := range [][]string{{"--validate"}, {"--input", "-"}} {
		r := observer(t, "", append([]string{"run", "--config", path}, args...)...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.err, `env:OTEL_TRACES_EXPORTER: is "console", which is not supported (allowed: otlp, none)`)
	}
}
