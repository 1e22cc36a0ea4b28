package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTraceContextIsReadFromWhatProducersWrite(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want event.TraceContext
	}{
		"an object":                    {`{"traceparent": "` + traceParent + `", "tracestate": "a=1,b=2"}`, event.TraceContext{Parent: traceParent, State: "a=1,b=2"}},
		"an object without a state":    {`{"traceparent": "` + traceParent + `"}`, event.TraceContext{Parent: traceParent}},
		"the plain text":               {traceParent, event.TraceContext{Parent: traceParent}},
		"a JSON string":                {`"` + traceParent + `"`, event.TraceContext{Parent: traceParent}},
		"an object in a JSON string":   {`"{\"traceparent\": \"` + traceParent + `\"}"`, event.TraceContext{Parent: traceParent}},
		"a later version with more":    {"01" + traceParent[2:] + "-more", event.TraceContext{Parent: "01" + traceParent[2:] + "-more"}},
		"a state that is too long":     {`{"traceparent": "` + traceParent + `", "tracestate": "a=` + strings.Repeat("x", 511) + `"}`, event.TraceContext{Parent: traceParent}},
		"nothing":                      {"", event.TraceContext{}},
		"null":                         {"null", event.TraceContext{}},
		"a number":                     {"7", event.TraceContext{}},
		"a list":                       {`["` + traceParent + `"]`, event.TraceContext{}},
		"an object of something else":  {`{"traceparent": {"a": 1}}`, event.TraceContext{}},
		"no JSON":                      {`{"traceparent": "` + traceParent + `"`, event.TraceContext{}},
		"only zeros as trace":          {"00-00000000000000000000000000000000-b7ad6b7169203331-01", event.TraceContext{}},
		"only zeros as parent":         {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", event.TraceContext{}},
		"upper case":                   {strings.ToUpper(traceParent), event.TraceContext{}},
		"version 00 with more":         {traceParent + "-more", event.TraceContext{}},
		"version ff":                   {"ff" + traceParent[2:], event.TraceContext{}},
		"a later version run together": {"01" + traceParent[2:] + "x", event.TraceContext{}},
		"a separator in a wrong place": {"00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01", event.TraceContext{}},
		"a header in a header":         {traceParent + "\r\nx: y", event.TraceContext{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, event.ParseTraceContext(tc.text))
		})
	}
}

func TestTraceContextIsPartOfTheEventsJSONWhereThereIsOne(t *testing.T) {
	t.Parallel()
	e, err := event.Decode([]byte(`{"entity_type": "Order", "data": 1, "trace_context": {"tracestate": "a=1", "traceparent": "` + traceParent + `", "more": 1}}`))
	require.NoError(t, err)
	require.Contains(t, string(e.JSON()), `,"trace_context":{"traceparent":"`+traceParent+`","tracestate":"a=1"}}`)
	again, err := event.Decode(e.JSON())
	require.NoError(t, err)
	require.Equal(t, event.TraceContext{Parent: traceParent, State: "a=1"}, again.Trace)

	for _, invalid := range []string{`"x"`, `7`, `{}`, `null`} {
		e, err := event.Decode([]byte(`{"entity_type": "Order", "data": 1, "trace_context": ` + invalid + `}`))
		require.NoError(t, err, "a trace never stops a change")
		require.NotContains(t, string(e.JSON()), "trace_context")
	}
}
