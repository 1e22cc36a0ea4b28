package middleware_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/middleware"
)

// traced gives the chain of a rig a tracer, and returns what remembers its spans.
func traced(r *rig) *tracetest.SpanRecorder {
	spans := tracetest.NewSpanRecorder()
	r.chain.Tracer = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("test")
	return spans
}

func attributes(span sdk.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, kv := range span.Attributes() {
		all[string(kv.Key)] = kv.Value.String()
	}
	return all
}

func TestTheSpanOfAnAttemptTellsItsOutcome(t *testing.T) {
	t.Parallel()
	refused := event.WithClass(errors.New("connection refused"), "refused")
	for name, tc := range map[string]struct {
		action      message.HandlerFunc
		earlier     int
		on          middleware.OnFailure
		outcome     string
		class, text string // of the error, "" for none
	}{
		"success":                {action: fails(nil), outcome: "success"},
		"parked":                 {action: fails(refused), earlier: 1, outcome: "parked", class: "refused", text: "connection refused"},
		"the last attempt":       {action: fails(refused), earlier: 2, outcome: "dead_letter", class: "refused", text: "connection refused"},
		"a permanent failure":    {action: fails(event.Permanent(refused)), outcome: "dead_letter", class: "refused", text: "connection refused"},
		"logged and dropped":     {action: fails(event.Permanent(refused)), on: middleware.FailureLog, outcome: "dropped", class: "refused", text: "connection refused"},
		"a panic":                {action: func(*message.Message) ([]*message.Message, error) { panic("oh") }, outcome: "parked", class: "panic", text: "panic: oh"},
		"held by another worker": {action: fails(event.ErrBusy), outcome: "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig()
			spans := traced(r)
			if tc.on != "" {
				r.chain.OnFailure = tc.on
			}
			_ = r.run(t.Context(), tc.earlier, tc.action) // the outcome is what the span tells
			require.Len(t, spans.Ended(), 1)
			span := spans.Ended()[0]
			got := attributes(span)
			require.Equal(t, "o/a", span.Name())
			require.Equal(t, tc.outcome, got["observer.outcome"])
			require.Equal(t, tc.class, got["error.type"])
			require.Equal(t, sdk.Status{Code: map[bool]codes.Code{true: codes.Error}[tc.class != ""], Description: tc.text}, span.Status())
			require.Equal(t, []string{"o", "a", "test", "Order", "e"},
				[]string{got["observer.name"], got["observer.action.name"], got["observer.action.type"], got["observer.entity"], got["messaging.message.id"]})
			require.Contains(t, span.Attributes(), attribute.Int("observer.attempt", tc.earlier+1))
		})
	}
}

func TestWhatShutdownCancelledIsNoErrorOfItsSpan(t *testing.T) {
	t.Parallel()
	r := newRig()
	spans := traced(r)
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, r.run(ctx, 0, func(msg *message.Message) ([]*message.Message, error) {
		cancel()
		return nil, msg.Context().Err()
	}), context.Canceled)
	require.Equal(t, "cancelled", attributes(spans.Ended()[0])["observer.outcome"])
	require.Equal(t, codes.Unset, spans.Ended()[0].Status().Code)
}

func TestTheChangeIsTheParentOfTheSpan(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, tc := range map[string]struct {
		change event.TraceContext
		remote bool
		state  string
	}{
		"a trace":                     {event.TraceContext{Parent: parent, State: "a=1"}, true, "a=1"},
		"a trace with a broken state": {event.TraceContext{Parent: parent, State: "=,="}, true, ""},
		"no trace":                    {event.TraceContext{}, false, ""},
		"a broken trace":              {event.TraceContext{Parent: "00-x"}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig()
			spans := traced(r)
			d := &event.Delivery{Event: &event.Event{ID: "e", Trace: tc.change}, Observer: "o", Action: "a"}
			var seen trace.SpanContext
			handler := middleware.Trace(r.chain.Tracer, "o", "a", "webhook")(func(msg *message.Message) ([]*message.Message, error) {
				seen = trace.SpanContextFromContext(msg.Context())
				return nil, nil
			})
			_, err := handler(message.NewMessageWithContext(event.NewContext(t.Context(), d), "e", nil))
			require.NoError(t, err)
			span := spans.Ended()[0]
			require.Equal(t, trace.SpanKindClient, span.SpanKind())
			require.Equal(t, span.SpanContext(), seen, "the action is inside of it")
			require.Equal(t, tc.remote, span.Parent().IsRemote())
			require.Equal(t, tc.state, seen.TraceState().String())
			if tc.remote {
				require.Equal(t, "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331", span.SpanContext().TraceID().String()+" "+span.Parent().SpanID().String())
			} else {
				require.False(t, span.Parent().IsValid())
			}
		})
	}
}

func TestWithoutATracerTheChainIsShorter(t *testing.T) {
	t.Parallel()
	r := newRig()
	without := len(r.chain.Middlewares())
	traced(r)
	require.Len(t, r.chain.Middlewares(), without+1)
}
