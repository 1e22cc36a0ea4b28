package event_test

import (
	"encoding/json"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer/event"
)

func order() *event.Event {
	before, data := `{"id": 9007199254740993, "status": "new"}`, `{"id": 9007199254740993, "status": "paid", "total": 10.50, "customer": {"email": "ada@example.com"}}`
	return &event.Event{
		ID: "e1", Type: event.Update, Entity: "Order", EntityID: "7", Data: json.RawMessage(data), Before: json.RawMessage(before),
		Changes: event.Diff(json.RawMessage(before), json.RawMessage(data)), UserID: "u1",
		Timestamp: time.Date(2026, 1, 31, 12, 0, 0, 500, time.UTC), Seq: 3, SchemaVersion: 2,
	}
}

func TestViewHoldsTheFourRoots(t *testing.T) {
	e := order()
	v, err := e.View()
	require.NoError(t, err)
	require.Len(t, v, 4)
	require.Equal(t, map[string]any{"old": "new", "new": "paid"}, v["changes"].(map[string]any)["status"])
	require.Equal(t, "new", v["before"].(map[string]any)["status"])
	require.InDelta(t, 10.5, v["data"].(map[string]any)["total"], 0)
	self := v["event"].(map[string]any)
	require.Len(t, self, 14)
	require.Equal(t, "UPDATE", self["event_type"])
	require.Equal(t, "2026-01-31T12:00:00.0000005Z", self["timestamp"])
	require.Nil(t, self["tenant_id"])
	require.Equal(t, v["data"], self["data"])
}

func TestViewAgreesWithTheEventsJSON(t *testing.T) {
	e := order()
	e.Source, e.ActorType, e.TenantID = "shop", "user", ""
	v, err := e.View()
	require.NoError(t, err)
	var want map[string]any
	require.NoError(t, json.Unmarshal(e.JSON(), &want))
	require.Equal(t, want, v["event"])
}

func TestExactKeepsEveryDigit(t *testing.T) {
	v, err := order().Exact()
	require.NoError(t, err)
	data := v["data"].(map[string]any)
	require.Equal(t, json.Number("9007199254740993"), data["id"])
	require.Equal(t, json.Number("10.50"), data["total"])
	require.Equal(t, json.Number("3"), v["event"].(map[string]any)["seq"])
}

func TestViewOfWhatWasNotCapturedIsNull(t *testing.T) {
	e := &event.Event{ID: "e1", Type: event.Custom, Entity: "Order"}
	for _, view := range []func() (map[string]any, error){e.View, e.Exact} {
		v, err := view()
		require.NoError(t, err)
		for _, root := range []string{"data", "before", "changes"} {
			require.Contains(t, v, root)
			require.Nil(t, v[root])
			require.Nil(t, v["event"].(map[string]any)[root])
		}
	}
}

func TestViewIsDecodedOnce(t *testing.T) {
	e := order()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _, _ = e.View() })
	}
	wg.Wait()
	a, err := e.View()
	require.NoError(t, err)
	a["mark"] = true
	b, err := e.View()
	require.NoError(t, err)
	require.Contains(t, b, "mark")
}

func TestViewOfBadDataIsAnErrorThatNamesTheEvent(t *testing.T) {
	e := &event.Event{ID: "e1", Data: json.RawMessage(`{"a":`)}
	_, err := e.View()
	require.ErrorContains(t, err, "decode data of event e1: ")
	_, err = e.Exact()
	require.ErrorContains(t, err, "decode data of event e1: ")
}

func TestNumbersBeyondFloatAreInfinite(t *testing.T) {
	e := &event.Event{ID: "e1", Data: json.RawMessage(`{"a": [1e400, -1e400, 2]}`)}
	v, err := e.View()
	require.NoError(t, err)
	require.Equal(t, []any{math.Inf(1), math.Inf(-1), 2.0}, v["data"].(map[string]any)["a"])
}

func TestRawFindsWhatIsThere(t *testing.T) {
	e := order()
	for path, want := range map[string]string{
		"data.customer.email": `"ada@example.com"`, "data.id": "9007199254740993", "data.total": "10.50", "event.data.status": `"paid"`,
		"changes.status.old": `"new"`, "changes.total.old": "null", "event.id": `"e1"`, "event.tenant_id": "null", "event.seq": "3",
		"event.timestamp": `"2026-01-31T12:00:00.0000005Z"`, "event": string(e.JSON()), "data": string(e.Data), "event.before": string(e.Before),
	} {
		raw, ok := e.Raw(strings.Split(path, ".")...)
		require.True(t, ok, path)
		require.Equal(t, want, raw, path)
	}
	for _, path := range []string{"", "data.nope", "data.total.x", "data.customer.email.x", "before.total", "event.nope", "event.id.x", "other.x"} {
		_, ok := e.Raw(strings.Split(path, ".")...)
		require.False(t, ok, path)
	}
	_, ok := e.Raw()
	require.False(t, ok)
	raw, ok := (&event.Event{}).Raw("before")
	require.True(t, ok)
	require.Equal(t, "null", raw)
}

// Raw must find what decoding the whole finds, whatever the names and values are.
func TestRawAgreesWithView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a", `a"b`, `\`, "é", "\xff"}))
		leaf, err := json.Marshal(rapid.MapOf(name, rapid.String()).Draw(t, "inner"))
		require.NoError(t, err)
		key, err := json.Marshal(name.Draw(t, "key"))
		require.NoError(t, err)
		e := &event.Event{ID: "e1", Data: json.RawMessage(`{"z": "\ud800\u0041", ` + string(key) + `: ` + string(leaf) + `, "z": "last"}`)}
		v, err := e.View()
		require.NoError(t, err)
		for k, value := range v["data"].(map[string]any) {
			raw, ok := e.Raw("data", k)
			require.True(t, ok, k)
			if inner, is := value.(map[string]any); is {
				for k2, text := range inner {
					raw, ok := e.Raw("data", k, k2)
					require.True(t, ok)
					require.Equal(t, text, event.Text(raw))
				}
				continue
			}
			require.Equal(t, value, event.Text(raw))
		}
	})
}

func BenchmarkRaw(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := order().Raw("data", "status"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkView(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := order().View(); err != nil {
			b.Fatal(err)
		}
	}
}
